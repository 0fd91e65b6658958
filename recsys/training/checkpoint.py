"""Checkpoints: weights to keep, and the state that a killed run resumes from; both by torch.distributed.checkpoint.

A checkpoint written by some number of processes loads in any other. Its tensors are read without unpickling, and its
index (a pickle by the format's own choice) through an unpickler that knows the index's classes and nothing else.
"""

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

from recsys.errors import InputError
from recsys.system.files import is_done, partial_folder, read_json, write_json
from recsys.system.progress import console
from recsys.system.seal import seal, verify
from recsys.system.world import World

PROGRESS_FILE = "progress.json"
_INDEX_FILE = ".metadata"
_PROBE_BYTES = 1 << 20


class _IndexUnpickler(pickle.Unpickler):
    """Finds what a checkpoint's index is made of."""

    _ALLOWED: ClassVar[dict[str, set[str]]] = {
        "builtins": {"set"},
        "collections": {"OrderedDict", "defaultdict"},
        "torch": {
            "Size",
            "float32",
            "float64",
            "float16",
            "bfloat16",
            "int32",
            "int64",
            "int16",
            "int8",
            "uint8",
            "bool",
        },
        "torch.serialization": {"_get_layout"},
        "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
        "torch.distributed.checkpoint.metadata": {
            "Metadata",
            "MetadataIndex",
            "TensorStorageMetadata",
            "ChunkStorageMetadata",
            "TensorProperties",
            "StorageMeta",
            "_MEM_FORMAT_ENCODING",
        },
    }

    def find_class(self, module: str, name: str) -> Any:
        """Refuses whatever no index needs."""
        if name not in self._ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint's index")
        return super().find_class(module, name)


class _TensorWriter(FileSystemWriter):
    """Leaves the folder's path out of the index: the folder is renamed when whole."""

    def storage_meta(self) -> StorageMeta:
        """What the index says of its origin."""
        return StorageMeta(save_id=self.save_id)


class SafeReader(FileSystemReader):
    """Reads tensors alone: neither its index nor its entries can bring code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index.

        Raises:
            InputError: when it is not one, or one of entries other than tensors.
        """
        path = Path(self.path) / _INDEX_FILE
        try:
            with path.open("rb") as file:
                index = _IndexUnpickler(file).load()
        except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
            raise InputError(f"{path} is not the index of a checkpoint ({error}): remove its folder") from error
        if not isinstance(index, Metadata):
            raise InputError(f"{path} is not the index of a checkpoint: remove its folder")
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index


def save_tensors(folder: Path, tensors: Mapping[str, Any], world: World, progress: Any = None) -> None:
    """Writes a folder of tensors in one piece: under another name first, over an older one at last.

    Args:
        folder: its name.
        tensors: by name, nested or not; sharded ones from every process.
        world: the processes, all of which must call.
        progress: JSON to keep beside them.
    """
    partial = partial_folder(folder)
    if world.is_main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    world.broadcast(None)  # the others wait for the folder
    try:
        dcp.save(dict(tensors), storage_writer=_TensorWriter(partial, single_file_per_rank=True))
    except (RuntimeError, dcp.api.CheckpointException) as error:
        raise _refused(error, partial) from error
    if world.is_main:
        if progress is not None:
            write_json(partial / PROGRESS_FILE, progress)
        seal(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    world.broadcast(None)


def _refused(error: BaseException, folder: Path) -> BaseException:
    """What the system refuses where a checkpoint was to be written; else the error.

    Torch's own word for a full disk is an unexpected position in a file: so one more write is tried.
    """
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
        probe.unlink()
    except OSError as refusal:
        probe.unlink(missing_ok=True)
        return OSError(refusal.errno, refusal.strerror, str(folder))
    return error


def load_tensors(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Fills tensors in place.

    Raises:
        InputError: when the folder is not a whole checkpoint, or one of another model.
    """
    if not is_done(folder):
        raise InputError(f"{folder} has no DONE file: it is not a whole checkpoint")
    names_in(folder)  # a broken index says so by itself
    verify(folder)
    try:
        dcp.load(dict(tensors), storage_reader=SafeReader(folder))
    except dcp.api.CheckpointException as error:
        cause = next(iter(error.failures.values()))[0] if error.failures else error
        raise InputError(f"{folder} is a checkpoint of another model ({cause})") from error


def names_in(folder: Path) -> set[str]:
    """The tensors of a checkpoint."""
    return set(SafeReader(folder).read_metadata().state_dict_metadata)


class ResumePoint:
    """The newest state of an unfinished fit, in one of two folders: while one is written the other stays whole."""

    def __init__(self, folder: Path, world: World) -> None:
        self._slots = [folder.with_name(f"{folder.name}-{slot}") for slot in "ab"]
        self._world = world
        self._sound: set[Path] = set()
        """Whole ones whose checksums were right, or that this process wrote."""

    def find(self) -> tuple[Path, Any] | None:
        """The newest whole state's folder and its progress."""
        newest = None
        if self._world.is_main:
            found = [(slot, read_json(slot / PROGRESS_FILE)) for slot in self._slots if self._is_sound(slot)]
            newest = max(found, key=lambda one: one[1]["step"], default=None)
        return self._world.broadcast(newest)

    def _is_sound(self, slot: Path) -> bool:
        if is_done(slot) and slot not in self._sound:
            try:
                verify(slot)
            except InputError as error:
                console.print(f"[yellow]{error}; it is left out[/yellow]")
                return False
            self._sound.add(slot)
        return slot in self._sound

    def save(self, tensors: Mapping[str, Any], progress: dict[str, Any]) -> None:
        """Writes over the older state; `progress` has a `step`."""
        newest = self.find()
        slot = next(slot for slot in self._slots if newest is None or slot != newest[0])
        self._sound.discard(slot)
        save_tensors(slot, tensors, self._world, progress)
        self._sound.add(slot)

    def clear(self) -> None:
        """Removes what a finished fit needs no more."""
        if self._world.is_main:
            for slot in self._slots:
                shutil.rmtree(slot, ignore_errors=True)
                shutil.rmtree(partial_folder(slot), ignore_errors=True)
