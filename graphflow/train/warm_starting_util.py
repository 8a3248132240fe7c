"""Variables that start from the values of a checkpoint: `init_from_checkpoint`, and `warm_start` with changed vocabularies.

Values are read when the initializers run; the graph keeps the checkpoint's path and the tensors' names.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import array_ops, errors, graph, math_ops, types
from ..graph import GraphKeys, Spec, Tensor
from ..ops import state
from ..ops.opdef import convert_to_tensor, primitive
from ..platform import logging
from . import checkpoint
from .saver import saveable_variables


@primitive("host", effect="outside", type="ReadCheckpoint", no_gradient="values of a file",
           infer=lambda *, path, tensor, part, dtype, shape: Spec(dtype, shape))
def read_checkpoint_op(*, path, tensor, part, dtype, shape):
    """A tensor of a checkpoint; `part` are (begin, size) of each axis, or () for all."""


@read_checkpoint_op.reference
def _(*, path, tensor, part, dtype, shape):
    value = checkpoint.load_checkpoint(path).get_tensor(tensor)
    return np.asarray(value)[tuple([slice(b, b + n) for b, n in part])].reshape(shape)


@primitive("host", effect="outside", type="RemapRows", no_gradient="values of files",
           infer=lambda *, new, old, new_size, old_size, offset, rows: [Spec(types.int64, (rows,))])
def old_rows_op(*, new, old, new_size, old_size, offset, rows):
    """For each of the new vocabulary's lines offset .. offset + rows its line in the old one; -1 for those that are not in it."""


@old_rows_op.reference
def _(*, new, old, new_size, old_size, offset, rows):
    place = {word: i for i, word in reversed(list(enumerate(_lines(old, old_size))))}
    found = [place.get(word, -1) for word in _lines(new, new_size)]
    return np.array((found + [-1] * rows * 2)[offset:offset + rows], np.int64)


def _lines(path: str, size: int) -> list[bytes]:
    """The first `size` lines of a file; -1 for all."""
    with open(path, "rb") as f:
        lines = f.read().splitlines()
    return lines if size < 0 else lines[:size]


def _begin(v: Any, value: Tensor) -> None:
    """Lets the variable's initializer store `value`."""
    v.initializer = state.assign(v.handle, value, name=f"{v.op.name}/checkpoint_initializer").op
    v._initial = value


def _stored(v: Any, reader: Any, path: str, name: str) -> Tensor:
    """The tensor of a checkpoint, or of it the part that `v` is.  Raises ValueError when it does not fit."""
    info = getattr(v, "_save_slice_info", None)
    want = tuple(v.handle.sizes if info is None else info.full_shape)
    if want != reader.shape(name):
        raise ValueError(f"Shape of variable {v.name} ({types.shape_text(want)}) doesn't match with shape of tensor {name} "
                         f"({types.shape_text(reader.shape(name))}) from checkpoint reader.")
    part = () if info is None else tuple(zip(info.var_offset, info.var_shape))
    dtype = reader.dtype(name)
    found = read_checkpoint_op(path=path, tensor=name, part=part, dtype=dtype, shape=tuple(v.handle.sizes),
                               name=f"{v.op.name}/checkpoint_value")
    return found if dtype is v.handle.dtype else math_ops.cast(found, v.handle.dtype)


def init_from_checkpoint(ckpt_dir_or_file: str, assignment_map: Any) -> None:
    """Makes variables' initializers take the values of a checkpoint; call it before running the initializers.

    Args:
        assignment_map: {name in the checkpoint: variable, its name, or the list of its parts}, {"old/scope/": "new/scope/"} ("/" for
            the root), or such pairs in a list.

    Raises:
        ValueError: a variable or scope is not there, or the shapes differ.  NotFoundError: a name the checkpoint lacks.
    """
    reader = checkpoint.load_checkpoint(ckpt_dir_or_file)
    for name, v in _assignments(reader, dict(assignment_map)):
        if not reader.has_tensor(name):
            raise errors.NotFoundError(None, v.op, f"Tensor {name} is not found in {ckpt_dir_or_file} "
                                       f"checkpoint.{errors.suggest(name, reader.names())}")
        with v.graph.as_default(), v.graph.control_dependencies(None), v.graph.name_scope(None):
            _begin(v, _stored(v, reader, _prefix(ckpt_dir_or_file), name))
        logging.info("Initialize variable %s from checkpoint %s with %s", v.name, ckpt_dir_or_file, name)


def _prefix(ckpt_dir_or_file: str) -> str:
    """The checkpoint that is meant now, also when a folder gets newer ones."""
    import os

    path = os.fspath(ckpt_dir_or_file)
    return checkpoint.latest_checkpoint(path) or path if os.path.isdir(path) else path


def _assignments(reader: checkpoint.CheckpointReader, assignment_map: dict[str, Any]) -> list[tuple[str, Any]]:
    ours: dict[str, list[Any]] = {}
    for v in saveable_variables():
        info = getattr(v, "_save_slice_info", None)
        ours.setdefault(v.op.name if info is None else info.full_name, []).append(v)
    pairs: list[tuple[str, Any]] = []
    for name, target in assignment_map.items():
        if not isinstance(target, str):
            several = isinstance(target, (list, tuple)) or hasattr(target, "_get_variable_list")
            pairs += [(name, v) for v in (target if several else [target])]
        elif name.endswith("/"):
            source, scope = ("" if name == "/" else name), ("" if target == "/" else target)
            found = [(source + n[len(scope):], v) for n, vs in ours.items() for v in vs
                     if n.startswith(scope) and reader.has_tensor(source + n[len(scope):])]
            if not found:
                raise ValueError(f"Assignment map with scope only name {target} should map to scope only {name}: no variable matches")
            pairs += found
        elif target not in ours:
            raise ValueError(f"Variable {target} is not in the graph.{errors.suggest(target, ours)}")
        else:
            pairs += [(name, v) for v in ours[target]]
    return pairs


class VocabInfo(NamedTuple):
    """How the rows (or, with axis 1, the columns) of a variable belong to the lines of vocabulary files.

    Args:
        new_vocab, new_vocab_size, num_oov_buckets: the variable's file, how many of its lines count, and how many entries follow them.
        old_vocab, old_vocab_size: those of the checkpoint; size -1 is the whole file.
        backup_initializer: makes the entries that the checkpoint does not have; zeros by default.
        axis: 0 or 1.
    """

    new_vocab: str
    new_vocab_size: int
    num_oov_buckets: int
    old_vocab: str
    old_vocab_size: int = -1
    backup_initializer: Any = None
    axis: int = 0


def warm_start(ckpt_to_initialize_from: str, vars_to_warm_start: Any = ".*", var_name_to_vocab_info: dict[str, VocabInfo] | None = None,
               var_name_to_prev_var_name: dict[str, str] | None = None) -> None:
    """Makes variables start from a checkpoint, as `init_from_checkpoint`, chosen by names; call it before running initializers.

    Args:
        ckpt_to_initialize_from: a checkpoint or a folder.
        vars_to_warm_start: a regular expression for trainable variables; a list of those, for all variables; a list of variables; or
            None, for those of `var_name_to_vocab_info` alone.
        var_name_to_vocab_info: variables whose rows move to other places.
        var_name_to_prev_var_name: names in the checkpoint, where they are different.

    Raises:
        ValueError: a name in the maps is no variable that is chosen, or nothing is chosen.
    """
    infos, renamed = dict(var_name_to_vocab_info or {}), dict(var_name_to_prev_var_name or {})
    logging.info("Warm-starting from: %s", ckpt_to_initialize_from)
    reader = checkpoint.load_checkpoint(ckpt_to_initialize_from)
    path = _prefix(ckpt_to_initialize_from)
    known_infos, known_names = set(infos), set(renamed)
    for name, parts in _chosen(vars_to_warm_start, infos).items():
        old = renamed.get(name, name)
        known_names.discard(name)
        info = infos.get(name)
        known_infos.discard(name)
        for v in parts:
            with v.graph.as_default(), v.graph.control_dependencies(None), v.graph.name_scope(None):
                _begin(v, _stored(v, reader, path, old) if info is None else _remapped(v, reader, path, old, info))
    for what, left in (("var_name_to_prev_var_name", known_names), ("var_name_to_vocab_info", known_infos)):
        if left:
            raise ValueError(f"{what} names variables that are not warm-started: {sorted(left)}")


def _chosen(wanted: Any, infos: dict[str, VocabInfo]) -> dict[str, list[Any]]:
    """Variables, or their parts, by name.  Raises ValueError, TypeError."""
    g = graph.get_default_graph()
    if wanted is None or isinstance(wanted, str):
        found = [] if wanted is None else g.get_collection(GraphKeys.TRAINABLE_VARIABLES, wanted)
        if wanted is None:
            found = [v for v in g.get_collection(GraphKeys.TRAINABLE_VARIABLES) if _full_name(v) in infos]
    elif isinstance(wanted, (list, tuple)) and all(isinstance(w, str) for w in wanted):
        found = [v for w in wanted for v in g.get_collection(GraphKeys.GLOBAL_VARIABLES, w)]
    elif isinstance(wanted, (list, tuple)):
        found = [v for w in wanted for v in (list(w) if hasattr(w, "_get_variable_list") else [w])]
    else:
        raise ValueError("`vars_to_warm_start must be a `list` or `tuple`, or a regular expression, or None. Found "
                         f"{type(wanted).__name__}")
    for v in found:
        if getattr(v, "handle", None) is None:
            raise TypeError(f"vars_to_warm_start holds something that is no variable: {v!r}")
    out: dict[str, list[Any]] = {}
    for v in dict.fromkeys(found):
        out.setdefault(_full_name(v), []).append(v)
    return out


def _full_name(v: Any) -> str:
    info = getattr(v, "_save_slice_info", None)
    return v.op.name if info is None else info.full_name


def _remapped(v: Any, reader: Any, path: str, old: str, info: VocabInfo) -> Tensor:
    """The rows of the old vocabulary's entries at the new one's places."""
    if not reader.has_tensor(old):
        raise errors.NotFoundError(None, v.op, f"Tensor {old} is not found in {path} checkpoint.{errors.suggest(old, reader.names())}")
    sizes, dtype = tuple(v.handle.sizes), v.handle.dtype
    part = getattr(v, "_save_slice_info", None)
    whole = sizes if part is None else tuple(part.full_shape)
    if info.axis not in (0, 1) or info.axis >= len(sizes):
        raise ValueError(f"axis of a VocabInfo must be 0 or 1 and an axis of {v.name}, got {info.axis}")
    if whole[info.axis] != info.new_vocab_size + info.num_oov_buckets:
        raise ValueError(f"{v.name} has {whole[info.axis]} entries along axis {info.axis}, but its vocabulary has {info.new_vocab_size} "
                         f"and {info.num_oov_buckets} buckets")
    offset = 0 if part is None else part.var_offset[info.axis]
    rows = old_rows_op(new=info.new_vocab, old=info.old_vocab, new_size=info.new_vocab_size, old_size=info.old_vocab_size, offset=offset,
                       rows=sizes[info.axis])
    table = read_checkpoint_op(path=path, tensor=old, part=(), dtype=reader.dtype(old), shape=reader.shape(old))
    found = math_ops.cast(array_ops.gather(table, math_ops.maximum(rows, 0), axis=info.axis), dtype)
    backup = array_ops.zeros(sizes, dtype) if info.backup_initializer is None else convert_to_tensor(
        info.backup_initializer(list(sizes), dtype=dtype))
    there = array_ops.reshape(math_ops.greater_equal(rows, 0), [-1 if k == info.axis else 1 for k in range(len(sizes))])
    return array_ops.where(math_ops.logical_and(there, array_ops.ones_like(found, dtype=types.bool_)), found, backup)
