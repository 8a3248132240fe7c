"""`tf.train.Saver`: variables of a session to and from checkpoints."""
from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from .. import errors, graph, types
from ..graph import GraphKeys
from . import bundle, checkpoint
from .training_util import global_step as step_of


class Parts:
    """The parts of a partitioned variable as one: they are saved as one tensor, and restored from one."""

    def __init__(self, variables: list[Any]):
        self.parts = sorted(variables, key=lambda v: v._save_slice_info.var_offset)
        first = self.parts[0]._save_slice_info
        self.name, self.sizes, self.dtype, self.op = first.full_name, tuple(first.full_shape), self.parts[0].handle.dtype, self.parts[0].op

    def _places(self) -> Any:
        for v in self.parts:
            info = v._save_slice_info
            yield v, tuple([slice(start, start + n) for start, n in zip(info.var_offset, info.var_shape)])

    def read(self, store: Any) -> np.ndarray:
        """The whole.  Raises ValueError when a part is missing."""
        out, seen = np.empty(self.sizes, self.dtype.np), 0
        for v, place in self._places():
            out[place] = store.read(v.op)
            seen += out[place].size
        if seen != out.size:
            raise ValueError(f"{self.name} cannot be saved: only {len(self.parts)} of its parts are given")
        return out

    def write(self, store: Any, value: np.ndarray) -> None:
        for v, place in self._places():
            store.write(v.op, value[place])


class One:
    """A variable that is saved as it is."""

    def __init__(self, v: Any):
        self.parts, self.name, self.op, self.dtype, self.sizes = [v], v.op.name, v.op, v.handle.dtype, v.handle.sizes

    def read(self, store: Any) -> np.ndarray:
        return store.read(self.op).copy()

    def write(self, store: Any, value: np.ndarray) -> None:
        store.write(self.op, value)


def _whole(given: Any) -> One | Parts:
    """What a value of a dict of variables stands for.  Raises TypeError."""
    parts = list(given) if isinstance(given, (list, tuple)) or _partitioned(given) else [given]
    for v in parts:
        if getattr(v, "handle", None) is None:
            raise TypeError(f"Variable to save is not a Variable: {v!r}")
    if len(parts) == 1 and getattr(parts[0], "_save_slice_info", None) is None:
        return One(parts[0])
    if any(getattr(v, "_save_slice_info", None) is None for v in parts):
        raise TypeError(f"Several variables under one name must be the parts of a partitioned variable: {parts}")
    return Parts(parts)


def _partitioned(v: Any) -> bool:
    return hasattr(v, "_get_variable_list")


def _named(var_list: Any) -> dict[str, One | Parts]:
    """Variables by the name they are saved under.

    Raises:
        TypeError: an item is no variable.  ValueError: two have the same name.
    """
    if isinstance(var_list, dict):
        return {name: _whole(v) for name, v in var_list.items()}
    if not isinstance(var_list, (list, tuple, set)):
        raise TypeError(f"var_list must be a list or a dict of variables, got {type(var_list).__name__}")
    out: dict[str, One | Parts] = {}
    parts: dict[str, list[Any]] = {}
    for v in [part for given in var_list for part in (given if _partitioned(given) else [given])]:
        info = getattr(v, "_save_slice_info", None)
        if info is not None:
            parts.setdefault(info.full_name, []).append(v)
            continue
        one = _whole(v)
        if one.name in out and out[one.name].op is not one.op:
            raise ValueError(f"At least two variables have the same name: {one.name}")
        out[one.name] = one
    for name, found in parts.items():
        if name in out:
            raise ValueError(f"At least two variables have the same name: {name}")
        out[name] = Parts(list(dict.fromkeys(found)))
    return out


class SaverDef:
    """What a Saver is made from: how many checkpoints it keeps, and `variables`, names of variables by the names they are saved under.

    The name of a partitioned variable is a list, that of its parts.
    """

    LEGACY, V1, V2 = range(3)

    def __init__(self, max_to_keep: int = 0, sharded: bool = False, keep_checkpoint_every_n_hours: float = 0.0, version: int = LEGACY,
                 variables: Any = None):
        self.max_to_keep, self.sharded, self.version = max_to_keep, sharded, version
        self.keep_checkpoint_every_n_hours = keep_checkpoint_every_n_hours
        self.variables: dict[str, Any] = dict(variables or {})

    def _renamed(self, change: Any) -> dict[str, Any]:
        """The names with `change` done to each variable's."""
        return {key: [change(n) for n in v] if isinstance(v, list) else change(v) for key, v in self.variables.items()}

    def _found(self) -> dict[str, Any]:
        """The variables of the default graph.  Raises ValueError when one is not there."""
        ours = {v.op.name: v for v in saveable_variables()}

        def known(name: str) -> Any:
            if name not in ours:
                raise ValueError(f"The variable {name} of the SaverDef is not in the graph.{errors.suggest(name, ours)}")
            return ours[name]

        return self._renamed(known)

    def _saver(self) -> Saver:
        return Saver(saver_def=self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SaverDef) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (f"max_to_keep: {self.max_to_keep}\nsharded: {str(self.sharded).lower()}\n"
                f"keep_checkpoint_every_n_hours: {self.keep_checkpoint_every_n_hours!r}\nversion: V{self.version}\n")


class Saver:
    """Saves and restores variables by name.

    A checkpoint is TensorFlow's (format V2): `<prefix>.index` and `<prefix>.data-00000-of-00001`, with the graph in
    `<prefix>.meta`; the prefix is what `save` returns and `restore` takes.

    Args:
        var_list: variables (saved under their own names), or a dict from other names; all saveable variables by default.
        max_to_keep: how many recent checkpoints stay on disk; 0 or None keeps all.
        keep_checkpoint_every_n_hours: additionally keep one checkpoint for so many hours of training.
        reshape: restore values of another shape with as many elements.
        allow_empty: no variables is no error.
        pad_step_number: steps in file names have eight digits.
        saver_def: a SaverDef, what an earlier Saver of this graph was made from; `var_list` must not be given then.
        defer_build: the variables are chosen by `build()`.
        save_relative_paths: the `checkpoint` file names paths relative to its folder.
        name, sharded, filename, restore_sequentially, builder, write_version: kept; a checkpoint is always one data file of format V2.

    Raises:
        ValueError: no variables, two with the same name, `saver_def` and `var_list`.  TypeError: an item that is no variable.
    """

    def __init__(self, var_list: Any = None, reshape: bool = False, sharded: bool = False, max_to_keep: int | None = 5,
                 keep_checkpoint_every_n_hours: float = 10000.0, name: str | None = None, restore_sequentially: bool = False,
                 saver_def: SaverDef | None = None, builder: Any = None, defer_build: bool = False, allow_empty: bool = False,
                 write_version: int | None = SaverDef.V2, pad_step_number: bool = False, save_relative_paths: bool = False,
                 filename: str | None = None):
        if defer_build and var_list:
            raise ValueError("If `var_list` is provided then build cannot be deferred. Either set defer_build=False or var_list=None.")
        if saver_def is not None:
            if var_list is not None:
                raise ValueError("If `saver_def` is provided then `var_list` must not be: it names the variables.")
            if not isinstance(saver_def, SaverDef):
                raise TypeError(f"saver_def must be a SaverDef, got {type(saver_def).__name__}")
            var_list, max_to_keep, sharded = saver_def._found(), saver_def.max_to_keep, saver_def.sharded
            keep_checkpoint_every_n_hours = saver_def.keep_checkpoint_every_n_hours
        self._given, self._reshape, self._max_to_keep = var_list, reshape, max_to_keep or 0
        self._hours, self._allow_empty, self._pad = keep_checkpoint_every_n_hours, allow_empty, pad_step_number
        self._relative, self._name, self._sharded = save_relative_paths, name or "save", sharded
        self._last: list[tuple[str, float]] = []
        self._next_kept = time.time() + keep_checkpoint_every_n_hours * 3600
        self._vars: dict[str, One | Parts] | None = None
        if not defer_build:
            self.build()

    def build(self) -> None:
        """Chooses the variables now (see `defer_build`)."""
        given = saveable_variables() if self._given is None else self._given
        self._vars = _named(given)
        if not self._vars and not self._allow_empty:
            self._vars = None
            raise ValueError("No variables to save")

    def as_saver_def(self) -> SaverDef:
        """What this Saver saves, by name, and how many checkpoints it keeps."""
        if self._vars is None:
            raise RuntimeError("`build()` should be called before as_saver_def if defer_build==True")
        names = {n: v.op.name if isinstance(v, One) else [p.op.name for p in v.parts] for n, v in self._vars.items()}
        return SaverDef(self._max_to_keep, self._sharded, self._hours, SaverDef.V2, names)

    saver_def = property(as_saver_def)

    def to_proto(self, export_scope: str | None = None) -> SaverDef | None:
        """`as_saver_def`; None when `export_scope` is given and no variable is inside it."""
        found = self.as_saver_def()
        if export_scope and not any(v.op.name.startswith(export_scope + "/") for v in (self._vars or {}).values()):
            return None
        return found

    @staticmethod
    def from_proto(saver_def: SaverDef, import_scope: str | None = None) -> Saver:
        """The Saver of a SaverDef for the default graph, whose variables are below `import_scope`."""
        scope = f"{import_scope}/" if import_scope else ""
        moved = SaverDef(saver_def.max_to_keep, saver_def.sharded, saver_def.keep_checkpoint_every_n_hours, saver_def.version,
                         saver_def._renamed(lambda name: scope + name))
        return Saver(saver_def=moved, name=import_scope)

    # -- the recent checkpoints

    @property
    def last_checkpoints(self) -> list[str]:
        """Prefixes of the checkpoints not yet deleted, oldest first."""
        return [path for path, _ in self._last]

    def set_last_checkpoints(self, last_checkpoints: list[str]) -> None:
        if not isinstance(last_checkpoints, list):
            raise AssertionError(f"last_checkpoints must be a list, got {type(last_checkpoints).__name__}")
        self.set_last_checkpoints_with_time([(p, np.inf) for p in last_checkpoints])

    def set_last_checkpoints_with_time(self, last_checkpoints_with_time: list[tuple[str, float]]) -> None:
        self._last = list(last_checkpoints_with_time)

    def recover_last_checkpoints(self, checkpoint_paths: list[str]) -> None:
        """Takes checkpoints left by an earlier process into the count of `max_to_keep`; missing ones are skipped."""
        there = [p for p in checkpoint_paths if checkpoint.checkpoint_exists(p)]
        self.set_last_checkpoints_with_time([(p, checkpoint.mtime(p)) for p in there])

    def _record(self, path: str, suffix: str) -> None:
        """Notes a new checkpoint and deletes those that are too many."""
        if not self._max_to_keep:
            return
        self._last = [c for c in self._last if c[0] != path] + [(path, time.time())]
        while len(self._last) > self._max_to_keep:
            old, written = self._last.pop(0)
            if written > self._next_kept and written != np.inf:
                self._next_kept += self._hours * 3600
            else:
                checkpoint.remove_checkpoint(old, meta_graph_suffix=suffix)

    # -- save and restore

    def save(self, sess: Any, save_path: str, global_step: Any = None, latest_filename: str | None = None, meta_graph_suffix: str = "meta",
             write_meta_graph: bool = True, write_state: bool = True, strip_default_attrs: bool = False,
             save_debug_info: bool = False) -> str | None:
        """Writes the variables' values in `sess` and returns the checkpoint's prefix, `save_path` or `save_path-step`.

        Args:
            global_step: a number, or a tensor or variable evaluated in `sess`.
            latest_filename: the name of the `checkpoint` file.
            write_meta_graph: also write `<prefix>.meta`, the graph as JSON.

        Raises:
            FailedPreconditionError: a variable has no value.  ValueError: the folder is missing, or a bad argument.
            TypeError: `sess` is no session.
        """
        path = self._path(sess, save_path, global_step, latest_filename)
        variables = self._built(sess)
        if not variables:
            return None
        with sess.store.lock:
            values = {name: (v.dtype, v.read(sess.store)) for name, v in variables.items()}
        bundle.write(path, values, checkpoint.replace_file)
        if write_meta_graph:
            self._write_meta(sess.graph, f"{path}.{meta_graph_suffix}")
        self._record(path, meta_graph_suffix)
        if write_state:
            checkpoint.update_checkpoint_state(os.path.dirname(path), path, self.last_checkpoints, latest_filename,
                                               save_relative_paths=self._relative)
        return path

    def _path(self, sess: Any, save_path: str, global_step: Any, latest_filename: str | None) -> str:
        if not hasattr(sess, "store"):
            raise TypeError(f"'sess' must be a Session; {sess!r}")
        if os.path.split(latest_filename or "")[0]:
            raise ValueError("'latest_filename' must not contain path components")
        save_path = os.fspath(save_path)
        if not os.path.basename(save_path) or save_path == (latest_filename or "checkpoint"):
            raise ValueError(f"Save path {save_path!r} conflicts with path used for checkpoint state, or names no file. Please use a "
                             "different save path.")
        if not os.path.isdir(os.path.dirname(save_path) or "."):
            raise ValueError(f"Parent directory of {save_path} doesn't exist, can't save.")
        if global_step is None:
            return save_path
        number = global_step if isinstance(global_step, (int, np.integer)) else step_of(sess, global_step)
        return f"{save_path}-{int(number):08d}" if self._pad else f"{save_path}-{int(number)}"

    def _built(self, sess: Any) -> dict[str, Any]:
        if self._vars is None:
            raise RuntimeError("`build()` should be called before save if defer_build==True")
        for v in self._vars.values():
            if v.op.graph is not sess.graph:
                raise ValueError(f"variable {v.op.name!r} of this Saver belongs to another graph than the session")
        return self._vars

    def _write_meta(self, g: Any, path: str) -> None:
        from .meta_graph import describe

        checkpoint.replace_file(path, [describe(g, self).SerializeToString()])

    def restore(self, sess: Any, save_path: str) -> None:
        """Gives the variables the values of a checkpoint; none is changed unless all can be.

        Raises:
            ValueError: there is no such checkpoint.  NotFoundError: it lacks a variable.
            InvalidArgumentError: another shape or dtype.  DataLossError: the file is damaged.
        """
        if save_path is None:
            raise ValueError("Can't load save_path when it is None.")
        if not checkpoint.checkpoint_exists(save_path):
            raise ValueError(f"The passed save_path is not a valid checkpoint: {os.fspath(save_path)}")
        variables = self._built(sess)
        values = read_values(checkpoint.CheckpointReader(save_path), variables, self._reshape)
        with sess.store.lock:
            for name, v in variables.items():
                v.write(sess.store, values[name])

    def export_meta_graph(self, filename: str | None = None, collection_list: Any = None, as_text: bool = False, export_scope: Any = None,
                          clear_devices: bool = False, clear_extraneous_savers: bool = False, strip_default_attrs: bool = False,
                          save_debug_info: bool = False) -> Any:
        """`tf.train.export_meta_graph` of the default graph, with the variables of this Saver."""
        from .meta_graph import export_meta_graph

        return export_meta_graph(filename, saver_def=self, collection_list=collection_list, export_scope=export_scope,
                                 clear_devices=clear_devices)


def saveable_variables() -> list[Any]:
    """What a Saver saves by default."""
    g = graph.get_default_graph()
    found = g.get_collection(GraphKeys.GLOBAL_VARIABLES) + g.get_collection(GraphKeys.SAVEABLE_OBJECTS)
    return list({id(v): v for v in found if getattr(v, "handle", None) is not None}.values())


def read_values(reader: checkpoint.CheckpointReader, variables: dict[str, Any], reshape: bool = False) -> dict[str, np.ndarray]:
    """The stored arrays for `variables` from a checkpoint, all checked.  Raises as `Saver.restore`."""
    missing = [name for name in variables if not reader.has_tensor(name)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise errors.NotFoundError(None, variables[missing[0]].op,
                                   f"Restoring from checkpoint failed. Key {missing[0]} not found in checkpoint "
                                   f"{reader.path!r}{more}.{errors.suggest(missing[0], reader.names())}")
    return {name: _checked(reader, name, v, reshape) for name, v in variables.items()}


def _checked(reader: checkpoint.CheckpointReader, name: str, v: Any, reshape: bool) -> np.ndarray:
    dtype, shape, want = reader.dtype(name), reader.shape(name), v.sizes
    if dtype is not v.dtype:
        raise errors.InvalidArgumentError(None, v.op,
                                          f"Restoring {name!r}: expected dtype {v.dtype.name}, the checkpoint has {dtype.name}")
    value = reader.stored(name)
    if reshape and types.known(want) and int(np.prod(want)) == value.size:
        return value.reshape(want)
    try:
        types.merge_shapes(want, shape)
    except ValueError:
        raise errors.InvalidArgumentError(None, v.op,
                                          f"Assign requires shapes of both tensors to match. lhs shape= {types.shape_text(want)} "
                                          f"rhs shape= {types.shape_text(shape)}: restoring {name!r} from {reader.path!r}") from None
    return value
