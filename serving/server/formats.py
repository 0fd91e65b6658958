"""Bodies of requests and answers: JSON and Arrow IPC streams."""

from collections.abc import Mapping
from typing import Any, Literal

import orjson
import pyarrow as pa
from pydantic import Field

from recsys.config import StrictModel, validate
from recsys.errors import InputError
from serving.runtime.recommend import N_CANDIDATES, Exclude
from serving.server.batching import Answer, TooManyCandidatesError

ARROW, JSON = "application/vnd.apache.arrow.stream", "application/json"
Scale = Literal["natural", "balanced"]


def read_body(body: bytes, content_type: str, max_bytes: int) -> tuple[Any, Mapping[str, Any] | None]:
    """Returns the candidates and the user of a request.

    Args:
        body: the body.
        content_type: its media type; JSON without one.
        max_bytes: limit of a decompressed Arrow table.

    Raises:
        InputError: for a body of another form.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == ARROW:
        return _read_arrow(body, max_bytes), None
    if media not in ("", JSON):
        raise InputError(f"the content type is {media!r}, expected {JSON} or {ARROW}: set the header Content-Type")
    values = read_json_body(body)
    if not isinstance(values, dict) or "candidates" not in values:
        raise InputError('the body has no "candidates": write {"user": {...}, "candidates": [{...}, ...]}')
    if others := sorted(values.keys() - {"user", "candidates"}):
        raise InputError(f'the body has the key {others[0][:100]!r}, expected only "user" and "candidates": remove it')
    return values["candidates"], values.get("user")


def read_json_body(body: bytes) -> Any:
    """Reads a body in JSON.

    Raises:
        InputError: if it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is not JSON ({error}): correct it") from error


class Wanted(StrictModel):
    """The body of a request for recommendations."""

    user: dict[str, Any]
    """The columns of the user and the context."""
    k: int = Field(default=10, ge=1)
    """Items of the answer."""
    candidates: int = Field(default=N_CANDIDATES, ge=1)
    """Items that are retrieved and ranked; at least k."""
    exclude: Exclude = "seen"


def read_recommendation(body: bytes, content_type: str, max_candidates: int) -> Wanted:
    """Reads a request for recommendations, in JSON.

    Args:
        body: the body.
        content_type: its media type; JSON without one.
        max_candidates: the most items that are ranked at once.

    Raises:
        InputError: for a body of another form.
        TooManyCandidatesError: for more candidates.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media not in ("", JSON):
        raise InputError(f"the content type is {media!r}, expected {JSON}: set the header Content-Type")
    values = read_json_body(body)
    if not isinstance(values, dict):
        raise InputError('the body is not an object: write {"user": {...}, "k": 10}')
    wanted = validate(Wanted, values, "the request")
    n = max(wanted.k, wanted.candidates)
    if n > max_candidates:
        raise TooManyCandidatesError(f"{n:,} candidates, at most {max_candidates:,} are accepted")
    return wanted.model_copy(update={"candidates": n})


def _read_arrow(body: bytes, max_bytes: int) -> pa.Table:
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            batches, n_bytes = [], 0
            for batch in reader:
                batch.validate(full=True)  # buffers from outside: offsets may point anywhere
                n_bytes += batch.nbytes
                if n_bytes > max_bytes:
                    raise InputError(f"the table has more than {max_bytes:,} bytes: divide the request")
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        message = " ".join(str(error).split())[:200]
        raise InputError(f"the body is not an Arrow IPC stream ({message}): write it with pyarrow.ipc") from error


def write_answer(answer: Answer, accept: str) -> tuple[bytes, str]:
    """Returns the body of an answer and its media type: an Arrow stream if the client accepts one, else JSON."""
    scores, spec = answer.scores, answer.bundle.spec
    values = scores.q if spec.scale == "balanced" else scores.p
    if ARROW in accept:
        table = pa.table({"score": values, "p": scores.p})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes(), ARROW
    body = {"bundle": spec.name, "scale": spec.scale, "scores": values}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), JSON
