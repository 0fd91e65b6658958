"""Checkpoints of final weights and of the state that a killed run resumes from, by torch.distributed.checkpoint.

A checkpoint loads in any number of processes, not only the number that wrote it. Reading tensors needs no unpickling.
The format stores the index as a pickle; a restricted unpickler that allows only the classes of an index reads it.
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
    """Unpickles only the classes that occur in a checkpoint's index."""

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
        """Finds an allowed class.

        Raises:
            UnpicklingError: for any other class.
        """
        if name not in self._ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a checkpoint's index")
        return super().find_class(module, name)


class _TensorWriter(FileSystemWriter):
    """Omits the folder's path from the index, because the folder is renamed when it is complete."""

    def storage_meta(self) -> StorageMeta:
        """The index entry on the origin of the checkpoint."""
        return StorageMeta(save_id=self.save_id)


class SafeReader(FileSystemReader):
    """Reads only tensors: neither the index nor the entries can execute code."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Reads the index.

        Raises:
            InputError: if the file is not an index, or if the index has entries other than tensors.
        """
        path = Path(self.path) / _INDEX_FILE
        try:
            with path.open("rb") as file:
                index = _IndexUnpickler(file).load()
        except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ValueError) as error:
            raise InputError(f"{path} is not the index of a checkpoint ({error}): delete its folder") from error
        if not isinstance(index, Metadata):
            raise InputError(f"{path} is not the index of a checkpoint: delete its folder")
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index


def save_tensors(folder: Path, tensors: Mapping[str, Any], world: World, progress: Any = None) -> None:
    """Writes a folder of tensors atomically: under a temporary name, then renamed over an existing folder.

    Args:
        folder: the final path.
        tensors: tensors by name, possibly nested; every process passes its shards of sharded tensors.
        world: the processes, all of which must call this function.
        progress: JSON data to save with the tensors.
    """
    partial = partial_folder(folder)
    if world.is_main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    world.broadcast(None)  # the other processes wait for the folder
    try:
        dcp.save(dict(tensors), storage_writer=_TensorWriter(partial, single_file_per_rank=True))
    except (RuntimeError, dcp.api.CheckpointException) as error:
        raise _write_error(error, partial) from error
    if world.is_main:
        if progress is not None:
            write_json(partial / PROGRESS_FILE, progress)
        seal(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    world.broadcast(None)


def _write_error(error: BaseException, folder: Path) -> BaseException:
    """The system's OSError if the folder cannot be written, else the given error.

    On a full disk, torch reports an unexpected position in a file; a test write raises the system's error.
    """
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
        probe.unlink()
    except OSError as os_error:
        probe.unlink(missing_ok=True)
        return OSError(os_error.errno, os_error.strerror, str(folder))
    return error


def load_tensors(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Loads a checkpoint into tensors in place.

    Raises:
        InputError: if the folder is not a complete checkpoint, or is a checkpoint of another model.
    """
    if not is_done(folder):
        raise InputError(f"{folder} has no DONE file: the checkpoint is incomplete")
    tensor_names(folder)  # gives a broken index its own error
    verify(folder)
    try:
        dcp.load(dict(tensors), storage_reader=SafeReader(folder))
    except dcp.api.CheckpointException as error:
        cause = next(iter(error.failures.values()))[0] if error.failures else error
        raise InputError(f"{folder} is a checkpoint of another model ({cause})") from error


def tensor_names(folder: Path) -> set[str]:
    """Names of the tensors in a checkpoint."""
    return set(SafeReader(folder).read_metadata().state_dict_metadata)


class ResumePoint:
    """The newest state of an unfinished fit, in one of two folders: one stays complete while the other is written."""

    def __init__(self, folder: Path, world: World) -> None:
        self._slots = [folder.with_name(f"{folder.name}-{slot}") for slot in "ab"]
        self._world = world
        self._verified: set[Path] = set()
        """Complete checkpoints with correct checksums, or written by this process."""

    def find(self) -> tuple[Path, Any] | None:
        """The folder and progress of the newest complete state; None without one."""
        newest = None
        if self._world.is_main:
            states = [(slot, read_json(slot / PROGRESS_FILE)) for slot in self._slots if self._is_valid(slot)]
            newest = max(states, key=lambda state: state[1]["step"], default=None)
        return self._world.broadcast(newest)

    def _is_valid(self, slot: Path) -> bool:
        if is_done(slot) and slot not in self._verified:
            try:
                verify(slot)
            except InputError as error:
                console.print(f"{error}; this checkpoint is ignored", style="yellow")
                return False
            self._verified.add(slot)
        return slot in self._verified

    def save(self, tensors: Mapping[str, Any], progress: dict[str, Any]) -> None:
        """Overwrites the older state; `progress` has a key `step`."""
        newest = self.find()
        slot = next(slot for slot in self._slots if newest is None or slot != newest[0])
        self._verified.discard(slot)
        save_tensors(slot, tensors, self._world, progress)
        self._verified.add(slot)

    def clear(self) -> None:
        """Deletes both states."""
        if self._world.is_main:
            for slot in self._slots:
                shutil.rmtree(slot, ignore_errors=True)
                shutil.rmtree(partial_folder(slot), ignore_errors=True)
