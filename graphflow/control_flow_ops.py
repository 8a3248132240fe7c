"""Branches and loops: `cond`, `case`, `switch_case`, `while_loop`; and ordering without data: `group`, `tuple`, ...

What a branch or body makes stands in a region of its own (ops/control.py).  Here Python structures become lists of tensors and
back, and everything that can be refused while the graph is built is refused.
"""
from __future__ import annotations

import builtins
import functools
from typing import Any, Callable, Sequence

from . import graph, nest, types
from .graph import Operation, Tensor
from .ops import checkpoint, control  # noqa: F401  (checkpoint: the gradient of loops with swap_memory)
from .ops.opdef import OpDef, constant, convert_to_tensor

__all__ = ["no_op", "group", "tuple", "with_dependencies", "cond", "case", "switch_case", "while_loop"]


def _no_op():
    """Does nothing; a place for control edges."""


NoOp = OpDef(_no_op, "control", type="NoOp", infer=lambda: [], numpy=lambda: [], no_gradient="it has no output")


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing; it runs after the control inputs around it."""
    return graph.get_default_graph().create_op(NoOp, (), {}, name)


def _flat(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return [x for k in values for x in _flat(values[k])]
    return [x for v in values for x in _flat(v)] if isinstance(values, (list, builtins.tuple)) else [values]


def group(*inputs: Any, name: str | None = None, **kwargs: Any) -> Operation:
    """An operation that runs all of `inputs` (operations, tensors, variables, any nesting of them).

    Raises:
        TypeError: an input that is none of these, or an unknown keyword.
    """
    if kwargs:
        raise TypeError(f"group() got unexpected argument(s) {sorted(kwargs)}")
    g = graph.get_default_graph()
    wanted = []
    for x in _flat(inputs):
        if x is None:
            raise TypeError("Expected tf.group() expected Tensor objects not None")
        element = g.as_graph_element(getattr(x, "_as_graph_element", None) and x.op or x)
        wanted.append(element)
    with g.control_dependencies(wanted):
        return no_op(name or "group_deps")


def with_dependencies(dependencies: Sequence[Any], output_tensor: Any, name: str | None = None) -> Tensor:
    """`output_tensor`, available only after `dependencies` have run."""
    from .array_ops import identity

    g = graph.get_default_graph()
    with g.name_scope(name or "control_dependency") as scope, g.control_dependencies(_flat(dependencies)):
        return identity(convert_to_tensor(output_tensor), name=scope)


def tuple(tensors: Any, name: str | None = None, control_inputs: Any = None) -> list[Any]:
    """The tensors, each available only when all of them are (and `control_inputs` have run); None stays None.

    Raises:
        ValueError: no tensor among them.
    """
    g = graph.get_default_graph()
    with g.name_scope(name or "tuple"):
        present = [t if isinstance(t, Operation) else convert_to_tensor(t) for t in tensors if t is not None]
        if not present:
            raise ValueError("Must have at least one Tensor: %s" % (tensors,))
        gate = group(*present, *(control_inputs or ()))
        made = iter([t if isinstance(t, Operation) else with_dependencies([gate], t) for t in present])
        return [None if t is None else next(made) for t in tensors]


# ---------------------------------------------------------------- structures of values


class _Pack:
    """A structure of values taken apart into tensors.

    Leaves are tensors and what converts to one; objects with `_components()` (tensors) and `_with_components(tensors)`, such as
    a TensorArray, are several; None stays None.
    """

    def __init__(self, structure: Any, pivot: Tensor | None = None):
        self.structure = structure
        self.leaves = nest.flatten(structure)
        self.tensors: list[Tensor] = []
        self.counts: list[int] = []
        for i, x in enumerate(self.leaves):
            if isinstance(x, Operation):
                if pivot is None:
                    raise TypeError(f"Can't convert Operation {x.name!r} to Tensor: a loop variable is a tensor")
                x = self.leaves[i] = with_dependencies([x], pivot)
            parts = [] if x is None else list(x._components()) if hasattr(x, "_components") else [convert_to_tensor(x)]
            self.tensors += parts
            self.counts.append(len(parts))

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """The structure with other tensors."""
        found, at = [], 0
        for x, n in zip(self.leaves, self.counts):
            parts = list(tensors[at:at + n])
            found.append(None if x is None else x._with_components(parts) if hasattr(x, "_components") else parts[0])
            at += n
        return nest.pack_sequence_as(self.structure, found)


# ---------------------------------------------------------------- branches


def cond(pred: Any, true_fn: Any = None, false_fn: Any = None, strict: bool = False, name: str | None = None, fn1: Any = None,
         fn2: Any = None) -> Any:
    """What `true_fn` gives where `pred` holds, else what `false_fn` gives; only one of them runs.

    Tensors made outside of the functions are computed in any case, as in TF1.  Effects (assignments, printing) inside a function
    happen when what it returns depends on them, by data or by `control_dependencies`.

    Args:
        pred: a bool scalar tensor.
        true_fn, false_fn: functions without arguments that return a tensor, a list or other nesting of tensors, None or an operation.
        strict: keep a list of one as a list; without it a list of one is its element, as in TF1.

    Returns:
        What the functions return, of tensors (a tensor stands for an operation).

    Raises:
        TypeError: a function that is not callable, a Python bool or a dtype other than bool as `pred`, lists for tuples.
        ValueError: `pred` is not a scalar; the functions return different structures or dtypes, or nothing.
    """
    true_fn, false_fn = _older("true_fn", true_fn, "fn1", fn1), _older("false_fn", false_fn, "fn2", fn2)
    for word, fn in (("true_fn", true_fn), ("false_fn", false_fn)):
        if not callable(fn):
            raise TypeError(f"{word} must be callable.")
    if isinstance(pred, bool):
        raise TypeError("pred must not be a Python bool: it is known now, use a Python if. For a tensor write tf.constant(...)")
    g = graph.get_default_graph()
    with g.name_scope(name or "cond"):
        p = _predicate(pred, "pred")
        packs, regions = [], []
        for fn in (true_fn, false_fn):
            region = control.enter(g, "a branch of tf.cond")
            with g.inside(region):
                region.name = g.get_name_scope()
                pack = _Pack(fn(), p)
                region.results = list(pack.tensors)
            packs.append(pack)
            regions.append(region)
        _same_form(packs)
        for region in regions:
            with g.inside(region):
                region.results = [control._own(t, region) for t in region.results]
        op = control.finish_cond(g, p, regions)
        found = packs[0].rebuild(op.outputs)
    single = not strict and isinstance(found, list | builtins.tuple) and not hasattr(found, "_fields") and len(found) == 1
    return found[0] if single else found


def _older(word: str, value: Any, old: str, other: Any) -> Any:
    """An argument, or the one of its deprecated name.  Raises TypeError for both or neither."""
    if value is not None and other is not None:
        raise TypeError(f"cond(): {word} and {old} may not be set simultaneously.")
    if value is None and other is None:
        raise TypeError(f"cond(): {word} argument required")
    return other if value is None else value


def _predicate(pred: Any, what: str) -> Tensor:
    p = convert_to_tensor(pred)
    if p.dtype is not types.bool_:
        raise TypeError(f"{what} must be a bool scalar, got {p!r} of dtype {p.dtype.name}; compare with tf.not_equal(x, 0) or the like")
    if p.sizes is not None and p.sizes != ():
        raise ValueError(f"Shape must be rank 0 but is rank {len(p.sizes)} for {what} {p.name!r}, of shape {p.shape}; "
                         "reduce it with tf.reduce_all or tf.reduce_any")
    return p


def _same_form(packs: Sequence[_Pack]) -> None:
    a, b = packs
    for word, x, y in (("true_fn", a, b), ("false_fn", b, a)):
        if x.structure is None and y.structure is not None:
            raise ValueError(f"{word} must have a return value.")
    if not a.leaves and not b.leaves:
        raise ValueError("true_fn and false_fn must return at least one result.")
    try:
        nest.assert_same_structure(a.structure, b.structure)
    except (ValueError, TypeError) as e:
        raise type(e)(f"Incompatible return types of true_fn and false_fn: {e}") from None
    for x, y, m, n in zip(a.leaves, b.leaves, a.counts, b.counts):
        if m != n:
            raise ValueError(f"Incompatible return values of true_fn and false_fn: {x!r} and {y!r}")


def switch_case(branch_index: Any, branch_fns: Any, default: Any = None, name: str = "switch_case") -> Any:
    """What the function number `branch_index` gives; `default` (or the last one) for any other number.

    Args:
        branch_index: an int32 scalar.
        branch_fns: a list of functions, or a dict or list of pairs from ints to functions.

    Raises:
        TypeError: no int32 scalar, no functions, keys that are no ints.  ValueError: no functions, a key used twice.
    """
    fns = _indexed(branch_fns)
    g = graph.get_default_graph()
    with g.name_scope(name):
        index = convert_to_tensor(branch_index)
        if index.dtype is not types.int32:
            raise TypeError(f"branch_index must be an int32 scalar, got {index!r} of dtype {index.dtype.name}")
        if index.sizes not in ((), None):
            raise ValueError(f"branch_index must be a scalar, got {index!r} of shape {index.shape}")
        last = default if default is not None else fns[max(fns)]
        rest = [(k, f) for k, f in sorted(fns.items()) if f is not last or default is not None]
        return _chain([(functools.partial(_is_number, index, k), f) for k, f in rest], last)


def _is_number(index: Tensor, k: int) -> Tensor:
    from .math_ops import equal

    return equal(index, constant(k, types.int32))


def _indexed(branch_fns: Any) -> dict[int, Callable[[], Any]]:
    if not isinstance(branch_fns, (list, builtins.tuple, dict)) or not branch_fns:
        raise TypeError("branch_fns must be a list, tuple, or dict of functions, and not empty") if not isinstance(
            branch_fns, (list, builtins.tuple, dict)) else ValueError("Must provide at least one item in branch_fns")
    pairs = list(branch_fns.items()) if isinstance(branch_fns, dict) else list(branch_fns)
    if all(callable(f) for f in pairs):
        pairs = list(enumerate(pairs))
    found: dict[int, Callable[[], Any]] = {}
    for pair in pairs:
        if not isinstance(pair, builtins.tuple) or len(pair) != 2:
            raise TypeError(f"Each entry in branch_fns must be a 2-tuple, a callable is expected beside its int; got {pair!r}")
        key, fn = pair
        if not isinstance(key, int):
            raise TypeError(f"key must be a Python `int`, got {key!r} of type {type(key).__name__}")
        if not callable(fn):
            raise TypeError(f"fn for key {key} must be callable.")
        if key in found:
            raise ValueError(f"branch indices (keys) must form contiguous range of [0 to {len(pairs)}) but found {key} twice")
        found[key] = fn
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"branch indices (keys) must form contiguous range of [0 to {len(found)}) but found "
                         f"{{{','.join(map(str, sorted(found)))}}}")
    return found


def _chain(pairs: Sequence[Any], last: Callable[[], Any]) -> Any:
    """Nested conds: each predicate is asked where the ones before it have said no."""
    if not pairs:
        return last()
    (ask, fn), *rest = pairs
    return cond(ask(), fn, lambda: _chain(rest, last), strict=True)


def case(pred_fn_pairs: Any, default: Any = None, exclusive: bool = False, strict: bool = False, name: str = "case") -> Any:
    """What the function beside the first true predicate gives, or `default()`.

    Args:
        pred_fn_pairs: a dict or list of pairs of a bool scalar tensor and a function.
        default: without it some predicate must hold: when none does, InvalidArgumentError.
        exclusive: at most one predicate may hold: when more do, InvalidArgumentError.
        strict: as for `cond`.

    Raises:
        TypeError: no pairs, or not of a bool tensor and a function.  ValueError: there are none.
    """
    from .check_ops import Assert
    from .math_ops import cast, logical_or, reduce_sum
    from .array_ops import stack

    if not isinstance(pred_fn_pairs, (list, builtins.tuple, dict)):
        raise TypeError("fns must be a list, tuple, or dict")
    pairs = list(pred_fn_pairs.items()) if isinstance(pred_fn_pairs, dict) else list(pred_fn_pairs)
    if not pairs and default is None:
        raise ValueError("Must provide at least one item in pred_fn_pairs")
    for pair in pairs:
        if not isinstance(pair, builtins.tuple) or len(pair) != 2:
            raise TypeError(f"Each entry in pred_fn_pairs must be a 2-tuple, got {pair!r}")
        if isinstance(pair[0], bool) or not callable(pair[1]):
            raise TypeError(f"Each entry must be a bool scalar tensor and a callable, got {pair!r}")
    if default is not None and not callable(default):
        raise TypeError("default must be callable.")
    g = graph.get_default_graph()
    with g.name_scope(name):
        preds = [_predicate(p, "pred") for p, _ in pairs]
        checks = []
        if exclusive and len(preds) > 1:
            many = reduce_sum(stack([cast(p, types.int32) for p in preds]))
            checks.append(Assert(many <= 1, ["Input error: exclusive=True: more than 1 conditions evaluated as True", many]))
        if default is None and preds:
            some = functools.reduce(logical_or, preds)
            checks.append(Assert(some, ["Input error: None of the conditions in tf.case evaluated as True, and there is no default"]))
        fns = [fn for _, fn in pairs]
        last = default if default is not None else fns.pop()
        with g.control_dependencies(checks):
            found = _chain([(functools.partial(_gated, p), fn) for p, fn in zip(preds, fns)], last) if fns else _gate_all(checks, last())
    single = not strict and isinstance(found, list | builtins.tuple) and not hasattr(found, "_fields") and len(found) == 1
    return found[0] if single else found


def _gated(p: Tensor) -> Tensor:
    from .array_ops import identity

    return identity(p)


def _gate_all(checks: list[Operation], found: Any) -> Any:
    return nest.map_structure(lambda t: with_dependencies(checks, t), found) if checks else found


# ---------------------------------------------------------------- loops


def while_loop(cond: Any, body: Any, loop_vars: Any, shape_invariants: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
               swap_memory: bool = False, name: str | None = None, maximum_iterations: Any = None,
               return_same_structure: bool = False) -> Any:
    """Calls `body` on the loop variables again and again while `cond` of them is true.

    Both functions are called once, while the graph is built.  Gradients go through loops of any length; what they need of each
    iteration is kept, with `swap_memory` only of some, from which the others are computed again (Chen et al. 2016).

    Args:
        cond: takes the loop variables, returns a bool scalar tensor.
        body: takes the loop variables, returns new ones: same structure, dtypes and shapes.
        loop_vars: a list, tuple or other nesting of tensors, arrays, numbers and TensorArrays.
        shape_invariants: the same nesting of shapes, for variables whose shape changes: sizes that do are None.
        parallel_iterations: accepted; iterations run one after the other.
        back_prop: False stops gradients.
        maximum_iterations: an int or scalar tensor; the loop ends after so many iterations in any case.
        return_same_structure: keep a list of one as a list.

    Returns:
        The final loop variables, in the structure of `loop_vars`; a single one by itself unless `return_same_structure`.

    Raises:
        TypeError: `cond` or `body` is not callable; `cond` gives no bool; a variable's dtype changes.
        ValueError: no loop variables; the structure or a shape changes; `cond` gives no scalar; a bad `parallel_iterations`.
    """
    for word, fn in (("cond", cond), ("body", body)):
        if not callable(fn):
            raise TypeError(f"{word} must be callable.")
    if not nest.is_sequence(loop_vars):
        loop_vars = [loop_vars]
    if not nest.flatten(loop_vars):
        raise ValueError("No loop variables provided")
    if isinstance(parallel_iterations, bool) or not isinstance(parallel_iterations, int) or parallel_iterations <= 0:
        raise TypeError("parallel_iterations must be a positive integer.")
    g = graph.get_default_graph()
    with g.name_scope(name or "while"):
        return _Loop(cond, body, loop_vars, shape_invariants, back_prop, swap_memory, maximum_iterations).build(g, return_same_structure)


class _Loop:
    """One call of `while_loop`."""

    def __init__(self, cond: Any, body: Any, loop_vars: Any, invariants: Any, back_prop: bool, swap: bool, maximum: Any):
        self.cond, self.body, self.back_prop, self.swap = cond, body, back_prop, swap
        self.pack = _Pack(loop_vars)
        self.inits = list(self.pack.tensors)
        self.shapes = self._shapes(invariants)
        self.named: list[str] = [_name_of(x, i) for i, (x, n) in enumerate(zip(self.pack.leaves, self.pack.counts)) for _ in range(n)]
        self.maximum = None
        if maximum is not None:
            self.maximum = convert_to_tensor(maximum)
            if self.maximum.sizes not in ((), None):
                raise ValueError(f"maximum_iterations must be a scalar, saw shape: {self.maximum.shape}")
            if self.maximum.dtype not in (types.int32, types.int64):
                raise TypeError(f"maximum_iterations must be an int32 or int64 scalar, got {self.maximum.dtype.name}")
            self.inits.append(constant(0, self.maximum.dtype))
            self.shapes.append(())

    def _shapes(self, invariants: Any) -> list[types.Shape]:
        if invariants is None:
            return [s for x, n in zip(self.pack.leaves, self.pack.counts) for s in _shapes_of(x, n)]
        try:
            flat = nest.flatten_up_to(self.pack.structure, invariants)
        except ValueError as e:
            raise ValueError(f"shape_invariants must have the structure of loop_vars: {e}") from None
        out: list[types.Shape] = []
        for x, n, s in zip(self.pack.leaves, self.pack.counts, flat):
            if hasattr(x, "_components"):
                out += _shapes_of(x, n)
                continue
            shape, t = types.as_shape(s), convert_to_tensor(x)
            if not _covers(shape, t.sizes):
                raise ValueError(f"The shape invariant specified for {_name_of(x, 0)} is not compatible with the initial shape of the loop "
                                 f"variable. It enters the loop with shape {t.shape}, but the specified shape invariant is "
                                 f"{types.TensorShape(s)}.")
            out.append(shape)
        return out

    def build(self, g: graph.Graph, same: bool) -> Any:
        ask, work = (control.enter(g, "a while loop") for _ in range(2))
        for region, build in ((ask, self._ask), (work, self._work)):
            region.name = g.get_name_scope()
            with g.inside(region):
                region.params = [control.loop_variable(spec=graph.Spec(t.dtype, s)) for t, s in zip(self.inits, self.shapes)]
                region.results = [control._own(t, region) for t in build(region.params)]
        op = control.finish_while(g, self.inits, [ask, work])
        if self.swap:
            g._checkpointed.add(op)
        outputs = list(op.outputs[:len(self.pack.tensors)])
        if not self.back_prop:
            from .ops.elementwise import stop_gradient

            outputs = [stop_gradient(t) if t.dtype.is_differentiable else t for t in outputs]
        found = self.result.rebuild(outputs) if hasattr(self, "result") else self.pack.rebuild(outputs)
        leaves = nest.flatten(found)
        return leaves[0] if len(leaves) == 1 and not same else found

    def _ask(self, params: Sequence[Tensor]) -> list[Tensor]:
        found = self.cond(*_as_arguments(self.pack.rebuild(params[:len(self.pack.tensors)])))
        p = _predicate(found, "the result of cond")
        if self.maximum is not None:
            from .math_ops import logical_and

            p = logical_and(p, params[-1] < self.maximum)
        return [p]

    def _work(self, params: Sequence[Tensor]) -> list[Tensor]:
        structure = self.pack.structure
        given = self.body(*_as_arguments(self.pack.rebuild(params[:len(self.pack.tensors)])))
        if not nest.is_sequence(given):
            given = [given]
        elif isinstance(structure, (list, builtins.tuple)) and len(structure) == 1 and not _matches(structure, given):
            given = [given]
        plain = isinstance(given, list | builtins.tuple) and type(structure) in (list, builtins.tuple)
        try:
            nest.assert_same_structure(structure, type(structure)(given) if plain else given)
        except (ValueError, TypeError) as e:
            raise type(e)(f"body must return loop variables of the structure of loop_vars: {e}") from None
        pack = self.result = _Pack(given)
        for x, y, i, n in zip(self.pack.leaves, pack.leaves, self.pack.counts, pack.counts):
            if i != n:
                raise ValueError(f"body must return what it takes: got {y!r} for the loop variable {x!r}")
        for t, p, s, name in zip(pack.tensors, params, self.shapes, self.named):
            if t.dtype is not p.dtype:
                raise TypeError(f"The dtype of the loop variable {name} changes: it enters the loop as {p.dtype.name}, but body returns "
                                f"{t.name!r} of {t.dtype.name}; convert with tf.cast")
            if not _covers(s, t.sizes):
                raise ValueError(f"The shape for {name} is not an invariant for the loop. It enters the loop with shape "
                                 f"{types.TensorShape(s)}, but has shape {t.shape} after one iteration. Provide shape invariants using "
                                 "either the `shape_invariants` argument of tf.while_loop or set_shape() on the loop variables.")
        more = [params[-1] + constant(1, params[-1].dtype)] if self.maximum is not None else []
        return [*pack.tensors, *more]


def _as_arguments(structure: Any) -> list[Any]:
    return list(structure) if isinstance(structure, list | builtins.tuple) and not hasattr(structure, "_fields") else (
        list(structure) if isinstance(structure, list | builtins.tuple) else [structure])


def _matches(structure: Any, given: Any) -> bool:
    try:
        nest.assert_same_structure(structure, type(structure)(given) if isinstance(given, list | builtins.tuple) else given)
    except (ValueError, TypeError):
        return False
    return True


def _name_of(x: Any, i: int) -> str:
    return repr(x.name) if isinstance(x, Tensor) else f"number {i} of loop_vars"


def _shapes_of(x: Any, n: int) -> list[types.Shape]:
    if hasattr(x, "_components"):
        return list(x._component_shapes()) if hasattr(x, "_component_shapes") else [None] * n
    return [] if x is None else [convert_to_tensor(x).sizes]


def _covers(general: types.Shape, special: types.Shape) -> bool:
    """Whether all tensors of the second shape have the first one too."""
    if general is None:
        return True
    if special is None or len(general) != len(special):
        return False
    return all(types.is_unknown(a) or types.same(a, b) is True for a, b in zip(general, special))
