"""Plans under a memory budget: the cheapest recomputation whose plan fits, or an error before anything runs.

Every candidate is measured by the planner itself: its kernels are lowered, their lifetimes packed into an arena, and
only then counted.  Knows plans and the pass that makes values again; knows no kernel (rank 4).
"""
from __future__ import annotations

from typing import Any, Callable

from .. import errors, types
from ..graph import Operation, Tensor
from ..passes import fusion, recompute
from . import memory, plan

ROUNDS = 3  # a second round starts from the best plan of the first: its worst moment is another one
TRIED = 12  # plans made in one round


def fit(compiled: Any, env: dict[str, int], make: Callable[[Any, int], Any], limit: int) -> Any:
    """A plan of at most `limit` bytes for the program of `compiled`, with sizes `env`; `make` gives a plan of kernels under a limit.

    Raises:
        errors.ResourceExhaustedError: there is none; names the ops with the largest tensors at the worst moment.
    """
    def measured(c: Any) -> Any:
        """A plan without memory, which knows how much it needs."""
        try:
            return make(c, 1)
        except memory.Exceeded as e:
            return e.args[0]

    start = measured(compiled)
    best = _best(start, measured, limit)
    if best.total > limit:
        pieces = _in_pieces(compiled, env)
        best = min(best, _best(measured(pieces), measured, limit), key=lambda p: p.total) if pieces is not None else best
    if best.total > limit:
        raise exhausted(best, limit)
    best.compiled.link()
    return make(best.compiled, limit)


def _best(start: Any, measured: Callable[[Any], Any], limit: int) -> Any:
    """`start` with values made again until it fits, or is as small as can be found."""
    for _ in range(ROUNDS):
        smaller = start if start.total <= limit else _smaller(start, measured, limit)
        if smaller.total <= limit or smaller.total >= start.total:
            return smaller
        start = smaller
    return start


def _in_pieces(compiled: Any, env: dict[str, int]) -> Any:
    """The kernels that make several elementwise results, as one kernel each, in an order of their own; None without such."""
    parted = _schedule(compiled, env).parted()
    if len(parted) == len(compiled.order):
        return None
    return plan.Compiled(compiled.program, fusion.Fusion(parted, compiled.fusion.refusals), ordered=False, place=compiled.place)


def _smaller(start: Any, measured: Callable[[Any], Any], limit: int) -> Any:
    """The cheapest plan that fits, or else the smallest found."""
    schedule = _schedule(start.compiled, start.env)
    choices = sorted(schedule.choices(), key=lambda c: (c.cost, c.peak))
    if not choices:
        return start
    # What the schedule does not see (packed operands, padding, variables, feeds) is about the same in all of them.
    around = start.total - schedule.peak()
    likely = [c for c in choices if c.peak + around <= limit * 1.02]
    best = start
    for choice in dict.fromkeys([*likely[:TRIED], min(choices, key=lambda c: c.peak)]):
        tried = measured(_compiled(schedule, choice, start.compiled))
        if tried.total <= limit:
            return tried
        best = min(best, tried, key=lambda p: p.total)
    return best


def _schedule(compiled: Any, env: dict[str, int]) -> recompute.Schedule:
    def nbytes(t: Tensor) -> int:
        n = t.dtype.size if t.dtype.kind != "s" else 8
        for s in t.sizes:  # type: ignore[union-attr]
            n *= types.evaluate(s, env)
        return n

    def fails(c: fusion.Cluster) -> bool:
        return c.kind == "host" or plan._checks(c)

    return recompute.Schedule(compiled.program, compiled.order, nbytes, fails, lambda t: compiled.buffers[t] in compiled.invariant)


def _compiled(schedule: recompute.Schedule, choice: recompute.Again, before: Any) -> Any:
    program, clusters = schedule.apply(choice)
    return plan.Compiled(program, fusion.Fusion(clusters, before.fusion.refusals), place=before.place)


def exhausted(p: Any, limit: int) -> errors.OpError:
    """The error for a plan that needs more than `limit` bytes (0: than the machine has)."""
    # Feeds, results and weights count as much as what the arena holds.
    outside = [b for b in p.shape if b in p.late or p.compiled.inputs.get(p.compiled.tensor_of.get(b), ("",))[0] == "variable"]
    alive = sorted({*memory.peak(p.slots)[1], *outside}, key=p.nbytes, reverse=True)
    parts = ", ".join(f"{k} {v:,}" for k, v in p.memory().items() if v)
    lines = [f"    {p.nbytes(b):,} bytes {b.dtype.name}{list(p.shape[b])} of {_maker(p, b)}" for b in _largest(p, alive)]
    allowed = f"memory_budget allows {limit:,} bytes" if limit else "the machine does not have them"
    op = _op(p, _largest(p, alive)[0]) if alive else None
    return errors.raised_at(errors.ResourceExhaustedError, op, f"OOM: the step needs {p.total:,} bytes ({parts}); {allowed}. "
                            "The largest tensors at its peak:\n" + "\n".join(lines) +
                            "\n  Nothing has run. Use a smaller batch, or allow more: tf.ConfigProto(memory_budget=bytes)")


def _largest(p: Any, alive: list[Any]) -> list[Any]:
    return [b for b in alive if _op(p, b) is not None][:5] or alive[:1]


def _op(p: Any, b: Any) -> Any:
    """The op whose tensor a buffer holds; for a part of a kernel's work, the op that the kernel ends with."""
    c = p.compiled
    if b in c.tensor_of:
        what = c.inputs.get(c.tensor_of[b], (None, None))[1]  # of an input: the user's tensor or variable
        return what.op if isinstance(what, Tensor) else what if isinstance(what, Operation) else c.tensor_of[b].op
    return next((u.op for u in c.units if b in u.writes), None)


def _maker(p: Any, b: Any) -> str:
    op = _op(p, b)
    name, = (op.origin or (op.name,))[:1]
    return errors.where(op).replace(f"'{op.name}'", f"'{name}'", 1)
