"""Checkpoints as files: reading any of them, and the `checkpoint` file that says which is the latest.

Knows bytes and paths; knows no graph and no session.  Checkpoints are in TensorFlow's format V2 (bundle.py); its format V1
(bundle_v1.py) is read, and so are the safetensors files of earlier versions of this package.
"""
from __future__ import annotations

import glob
import json
import os
import re
import tempfile
import time
from typing import Any, Iterable

import numpy as np

from .. import errors, types
from ..types import DType
from .bundle import INDEX, Bundle
from .bundle_v1 import OldBundle, files_of
from .safetensors import SUFFIX, SafeTensors


def replace_file(path: str, chunks: Iterable[bytes]) -> None:
    """Puts `chunks` at `path` in one step: a temporary file, flushed to the disk, takes the name."""
    folder = os.path.dirname(path) or "."
    descriptor, temporary = tempfile.mkstemp(prefix=os.path.basename(path) + ".tmp", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as f:
            for chunk in chunks:
                f.write(chunk)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------- reading


class CheckpointReader:
    """`tf.train.NewCheckpointReader(prefix)`: the names, shapes, dtypes and values in one checkpoint.

    Raises:
        NotFoundError: no such file, or no such tensor.  DataLossError: a file is cut short or corrupted.
    """

    def __init__(self, filepattern: str):
        prefix = os.fspath(filepattern)
        try:
            self._file = _opened(prefix)
        except OSError as e:
            raise errors.NotFoundError(None, None,
                                       f"Unsuccessful TensorSliceReader constructor: Failed to find any matching files for {prefix} "
                                       f"({e.filename}: {e.strerror})") from None
        self.path = self._file.path

    def names(self) -> list[str]:
        return sorted(self._file.entries)

    def has_tensor(self, tensor_str: str) -> bool:
        return tensor_str in self._file.entries

    def _known(self, name: str) -> str:
        if name not in self._file.entries:
            raise errors.NotFoundError(None, None,
                                       f"Key {name} not found in checkpoint {self.path!r}.{errors.suggest(name, self._file.entries)}")
        return name

    def dtype(self, name: str) -> DType:
        return self._file.dtype(self._known(name))

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file.shape(self._known(name))

    def stored(self, name: str) -> np.ndarray:
        """The array as a variable stores it; bfloat16 as bits."""
        return self._file.stored(self._known(name))

    def get_tensor(self, tensor_str: str) -> np.ndarray:
        """The value; bfloat16 as the float32 it stands for."""
        value = self.stored(tensor_str)
        value = types.bf16_decode(value) if self.dtype(tensor_str) is types.bfloat16 else value
        return value[()] if self.dtype(tensor_str) is types.string and value.shape == () else value

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        return {n: list(self.shape(n)) for n in self.names()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        return {n: self.dtype(n) for n in self.names()}

    def debug_string(self) -> bytes:
        return "\n".join(f"{n} ({self.dtype(n).name}) {list(self.shape(n))}" for n in self.names()).encode()


NewCheckpointReader = CheckpointReader


def _opened(prefix: str) -> Any:
    """The file or files, in whichever format they are."""
    if not _is_bundle(prefix):
        if os.path.isfile(old_file(prefix)):
            return SafeTensors(old_file(prefix))
        if files_of(prefix):
            return OldBundle(prefix)
    return Bundle(prefix)


def _is_bundle(prefix: str) -> bool:
    return os.path.isfile(prefix + INDEX) or os.path.isfile(prefix + INDEX + ".next")


def old_file(prefix: str) -> str:
    """The one file that earlier versions of this package saved."""
    return prefix if prefix.endswith(SUFFIX) else prefix + SUFFIX


def checkpoint_exists(checkpoint_prefix: str) -> bool:
    """Whether a checkpoint of this prefix is there."""
    prefix = os.fspath(checkpoint_prefix)
    return _is_bundle(prefix) or os.path.isfile(old_file(prefix)) or bool(files_of(prefix))


def mtime(prefix: str) -> float:
    """When a checkpoint was written."""
    places = (prefix + INDEX, prefix + INDEX + ".next", old_file(prefix), *files_of(prefix))
    return os.path.getmtime(next((p for p in places if os.path.exists(p)), places[0]))


def get_checkpoint_mtimes(checkpoint_prefixes: Iterable[str]) -> list[float]:
    """When each checkpoint was written; those that are not there are left out."""
    return [mtime(p) for p in checkpoint_prefixes if checkpoint_exists(p)]


def remove_checkpoint(checkpoint_prefix: str, checkpoint_format_version: Any = None, meta_graph_suffix: str = "meta") -> None:
    """Deletes a checkpoint's files, the index first; those that are not there are ignored."""
    prefix = os.fspath(checkpoint_prefix)
    data = glob.glob(glob.escape(prefix) + ".data-?????-of-?????*")
    for path in (prefix + INDEX, prefix + INDEX + ".next", *data, old_file(prefix), *files_of(prefix), f"{prefix}.{meta_graph_suffix}"):
        if os.path.exists(path):
            os.unlink(path)


def load_checkpoint(ckpt_dir_or_file: str) -> CheckpointReader:
    """A reader of a checkpoint, or of the latest one of a folder.  Raises ValueError when the folder names none."""
    if os.path.isdir(ckpt_dir_or_file):
        latest = latest_checkpoint(ckpt_dir_or_file)
        if latest is None:
            raise ValueError(f"Couldn't find 'checkpoint' file or checkpoints in given directory {ckpt_dir_or_file}")
        ckpt_dir_or_file = latest
    return CheckpointReader(ckpt_dir_or_file)


def list_variables(ckpt_dir_or_file: str) -> list[tuple[str, list[int]]]:
    """(name, shape) of everything in a checkpoint, sorted by name."""
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


def load_variable(ckpt_dir_or_file: str, name: str) -> np.ndarray:
    """One value of a checkpoint; a name may end in ":0"."""
    return load_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


# ---------------------------------------------------------------- the `checkpoint` file


class CheckpointState:
    """What the `checkpoint` file of a folder says: the latest checkpoint's prefix, and those that are kept."""

    def __init__(self, model_checkpoint_path: str = "", all_model_checkpoint_paths: Iterable[str] = (),
                 all_model_checkpoint_timestamps: Iterable[float] = (), last_preserved_timestamp: float = 0.0):
        self.model_checkpoint_path = model_checkpoint_path
        self.all_model_checkpoint_paths = list(all_model_checkpoint_paths)
        self.all_model_checkpoint_timestamps = list(all_model_checkpoint_timestamps)
        self.last_preserved_timestamp = last_preserved_timestamp

    def __str__(self) -> str:
        lines = [f"model_checkpoint_path: {json.dumps(self.model_checkpoint_path, ensure_ascii=False)}"]
        lines += [f"all_model_checkpoint_paths: {json.dumps(p, ensure_ascii=False)}" for p in self.all_model_checkpoint_paths]
        lines += [f"all_model_checkpoint_timestamps: {t!r}" for t in self.all_model_checkpoint_timestamps]
        lines += [f"last_preserved_timestamp: {self.last_preserved_timestamp!r}"] if self.last_preserved_timestamp else []
        return "\n".join(lines) + "\n"

    __repr__ = __str__


_LINE = re.compile(r'^\s*(\w+)\s*:\s*("(?:[^"\\]|\\.)*"|[-+.\w]+)\s*$')


def _parse(text: str) -> CheckpointState | None:
    """The state written in `text`, or None when it is not of that form."""
    state = CheckpointState()
    for line in filter(str.strip, text.splitlines()):
        found = _LINE.match(line)
        if found is None or not hasattr(state, found[1]):
            return None
        try:
            value = json.loads(found[2]) if found[2].startswith('"') else float(found[2])
        except ValueError:
            return None
        if isinstance(value, str) != found[1].endswith(("path", "paths")):
            return None
        field = getattr(state, found[1])
        field.append(value) if isinstance(field, list) else setattr(state, found[1], value)
    return state


def state_file(folder: str, latest_filename: str | None = None) -> str:
    return os.path.join(folder, latest_filename or "checkpoint")


def get_checkpoint_state(checkpoint_dir: str, latest_filename: str | None = None) -> CheckpointState | None:
    """The `checkpoint` file of a folder, with its paths made usable from here; None when there is none or it is damaged."""
    path = state_file(os.fspath(checkpoint_dir), latest_filename)
    try:
        with open(path, encoding="utf-8") as f:
            state = _parse(f.read())
    except (OSError, UnicodeDecodeError):
        return None
    if state is None or not state.model_checkpoint_path:
        return None
    state.model_checkpoint_path = os.path.join(checkpoint_dir, state.model_checkpoint_path)
    state.all_model_checkpoint_paths = [os.path.join(checkpoint_dir, p) for p in state.all_model_checkpoint_paths]
    return state


def latest_checkpoint(checkpoint_dir: str, latest_filename: str | None = None) -> str | None:
    """The prefix of the folder's latest checkpoint, or None when it names none or the file is gone."""
    state = get_checkpoint_state(checkpoint_dir, latest_filename)
    return state.model_checkpoint_path if state is not None and checkpoint_exists(state.model_checkpoint_path) else None


def generate_checkpoint_state_proto(save_dir: str, model_checkpoint_path: str, all_model_checkpoint_paths: Any = None,
                                    all_model_checkpoint_timestamps: Any = None,
                                    last_preserved_timestamp: float | None = None) -> CheckpointState:
    """The state to write into `save_dir`: relative paths are rewritten relative to it; the latest one is listed last."""
    paths = list(all_model_checkpoint_paths or [])
    times = list(all_model_checkpoint_timestamps or [])
    if times and len(times) != len(paths):
        raise ValueError(f"Checkpoint timestamps, if provided, must match checkpoint paths (got paths {paths} and timestamps {times})")
    if not paths or paths[-1] != model_checkpoint_path:
        times = [*times, time.time()] if times else times
        paths.append(model_checkpoint_path)
    if not os.path.isabs(save_dir):
        model_checkpoint_path, *paths = [p if os.path.isabs(p) else os.path.relpath(p, save_dir or ".")
                                         for p in (model_checkpoint_path, *paths)]
    return CheckpointState(model_checkpoint_path, paths, times, last_preserved_timestamp or 0.0)


def update_checkpoint_state(save_dir: str, model_checkpoint_path: str, all_model_checkpoint_paths: Any = None,
                            latest_filename: str | None = None,
                            all_model_checkpoint_timestamps: Any = None, last_preserved_timestamp: float | None = None,
                            save_relative_paths: bool = False) -> None:
    """Writes the `checkpoint` file of `save_dir`, atomically.

    Raises:
        RuntimeError: it would overwrite a checkpoint of the same name.
    """
    path = state_file(save_dir, latest_filename)
    if save_relative_paths:
        model_checkpoint_path, *all_model_checkpoint_paths = [
            os.path.relpath(p, save_dir or ".") if os.path.isabs(p) == os.path.isabs(save_dir) else p
            for p in (model_checkpoint_path, *(all_model_checkpoint_paths or []))]
        state = CheckpointState(model_checkpoint_path, all_model_checkpoint_paths or [model_checkpoint_path],
                                all_model_checkpoint_timestamps or [], last_preserved_timestamp or 0.0)
    else:
        state = generate_checkpoint_state_proto(save_dir, model_checkpoint_path, all_model_checkpoint_paths,
                                                all_model_checkpoint_timestamps, last_preserved_timestamp)
    if path == state.model_checkpoint_path:
        raise RuntimeError(f"Save path {model_checkpoint_path!r} conflicts with path used for checkpoint state. Please use a different "
                           "save path.")
    replace_file(path, [str(state).encode()])
