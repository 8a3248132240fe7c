"""softmax(q k^T) v, as people write it, becomes one `Attention`; with the ops that its gradient was made of, one `AttentionGrad`.

Recognised are a product of two matrices, steps that scale or mask its elements, a softmax over the last axis and a product with
the values; and behind them, when the step has gradients, exactly what graphflow's gradients of these ops are made of.  If
anything else reads a score, a probability or one of their gradients (a fetch, dropout, the gradient of a mask), that array must
exist anyway, and all stays as it is.  Tried on the user's ops, before composites open (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, NamedTuple, Sequence

import numpy as np

from .. import types
from ..graph import Operation, Tensor
from ..ops.attention import attention as attention_op
from ..ops.attention import attention_grad
from . import rewrite
from .program import Program, with_inputs
from .rewrite import op, same_constant, same_shape, splat
from .triangles import triangular

# Scores of one head below which they fit in the first-level cache beside everything else.
FEW = 1024
DEEPEST = 256  # longest query or value whose blocks still fit in the second-level cache
RULE = "softmax(q k^T) v = attention"


class Matrix(NamedTuple):
    """A tensor of matrices, transposed or not: the same product is written in both ways."""

    t: Tensor
    transposed: bool

    def flipped(self) -> Matrix:
        return Matrix(self.t, not self.transposed)

    def built(self, t: Tensor) -> Tensor:
        """What it stands for, from what its tensor has become, in the scratch graph that is open."""
        return _swapped(t) if self.transposed else t


def _swapped(t: Tensor) -> Tensor:
    rank = len(t.sizes)  # type: ignore[arg-type]
    return op.Transpose(t, perm=(*range(rank - 2), rank - 1, rank - 2))


def matrix(t: Tensor, transposed: bool) -> Matrix:
    """The operand without transposes of its last two axes."""
    while t.op.opdef is op.Transpose and _swaps(t.op):
        t, transposed = t.op.inputs[0], not transposed
    return Matrix(t, transposed)


def _swaps(o: Operation) -> bool:
    rank = len(o.inputs[0].sizes)  # type: ignore[arg-type]
    perm = o.attrs["perm"]
    perm = tuple(reversed(range(rank))) if perm is None else tuple(p % rank for p in perm)
    return rank >= 2 and perm == (*range(rank - 2), rank - 1, rank - 2)


def is_product(o: Operation) -> bool:
    return o.opdef in (op.MatMul, op.BatchMatMul)


def factors(o: Operation) -> tuple[Matrix, Matrix]:
    """The two matrices that a product multiplies."""
    return matrix(o.inputs[0], o.attrs["transpose_a"]), matrix(o.inputs[1], o.attrs["transpose_b"])


@dataclass
class Step:
    """One op between the product and the softmax: `kind` as in ops/attention.py, with the op itself for its gradient."""

    op: Operation
    chain: int  # which input is the scores
    kind: str
    mask: Tensor | None
    fill: float | None


@dataclass
class Found:
    """One attention: its operands, and the tensors that it and its gradient replace."""

    q: Matrix
    k: Matrix
    v: Matrix
    steps: list[Step]
    dy: Matrix | None = None
    # tensor -> ("out", "dq", "dk" or "dv"; whether it is the transpose of that)
    exits: dict[Tensor, tuple[str, bool]] = field(default_factory=dict)
    ops: list[Operation] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)

    def operands(self, what: str) -> list[Tensor]:
        masks = [s.mask for s in self.steps if s.mask is not None]
        return [self.q.t, self.k.t, self.v.t, *masks, *([self.dy.t] if what != "out" and self.dy is not None else [])]


class _Refused(Exception):
    """The ops are not those of an attention."""


Takes = Callable[[Sequence[Operation], types.DType, types.Size, Sequence[types.Size]], bool]


def of_cpu(ops: Sequence[Operation], dtype: types.DType, queries: types.Size, depths: Sequence[types.Size]) -> bool:
    """Whether the CPU's generator computes, in place of `ops`, an attention of so many queries, and of rows of these lengths."""
    return dtype in types.REAL and all(isinstance(d, int) and 0 < d <= DEEPEST for d in depths)


def attention(program: Program, takes: Takes = of_cpu) -> Program:
    """The program with every attention as one op, and its gradient as one, where `takes` says that there are kernels for it."""
    tops = [o for o in program.ops() if o.opdef is op.Softmax and o.outputs[0].dtype in types.FLOAT]
    if not tops:
        return program
    look = _Look(program, takes)
    found = []
    for o in tops:
        try:
            found.append(look.at(o))
        except _Refused:
            continue
    return _Replace(program, found).run() if found else program


class _Look:
    """Compares the surroundings of a softmax with those of an attention."""

    def __init__(self, program: Program, takes: Takes):
        self.consumers, self.roots, self.takes = program.consumers(), set(program.roots()), takes

    # -- edges, looking through ops that change nothing

    def users(self, t: Tensor) -> list[tuple[Operation, Tensor]]:
        """Ops that read elements of `t`, and what they read it as."""
        out, stack = [], [t]
        while stack:
            x = stack.pop()
            if x in self.roots:
                raise _Refused
            for c in dict.fromkeys(self.consumers.get(x, ())):
                if all(y is not x or c.opdef.param_name(i) in c.opdef.shape_only for i, y in enumerate(c.inputs)):
                    continue
                if _changes_nothing(c):
                    stack.append(c.outputs[0])
                else:
                    out.append((c, x))
        return out

    def only_user(self, t: Tensor) -> tuple[Operation, Tensor]:
        found = self.users(t)
        if len(found) != 1:
            raise _Refused
        return found[0]

    # -- the forward part

    def at(self, softmax: Operation) -> Found:
        p = softmax.outputs[0]
        rank = len(p.sizes or ())
        if rank < 2 or softmax.attrs["axis"] not in (-1, rank - 1):
            raise _Refused
        steps = self.steps(softmax.inputs[0], softmax)
        if steps is None:
            raise _Refused
        product, chain = steps
        q, kt = factors(product)
        if not same_shape(product.outputs[0].sizes, p.sizes):
            raise _Refused
        f = Found(q, kt.flipped(), Matrix(p, False), list(reversed(chain)), ops=[product, softmax])
        self.outputs(f, p)
        self.worth(f, p)
        return f

    def steps(self, t: Tensor, reader: Operation) -> tuple[Operation, list[Step]] | None:
        """(the product that `t` is made of, the steps in between, last first)."""
        t = _behind(t)
        if t in self.roots or len(self.users(t)) != 1:
            return None
        if is_product(t.op):
            return t.op, []
        for s in _readings(t.op):
            found = self.steps(t.op.inputs[s.chain], t.op)
            if found is not None and same_shape(t.op.inputs[s.chain].sizes, t.sizes):
                return found[0], [s, *found[1]]
        return None

    def worth(self, f: Found, p: Tensor) -> None:
        rows, columns = p.sizes[-2:]  # type: ignore[index]
        depth, width = (m.t.sizes[-2 if m.transposed else -1] for m in (f.q, f.v))  # type: ignore[index]
        small = (types.hint(rows) or 0) * (types.hint(columns) or 0) < FEW
        if small or not self.takes(list(dict.fromkeys(f.ops)), p.dtype, rows, (depth, width)):
            raise _Refused

    # -- what reads the probabilities

    def outputs(self, f: Found, p: Tensor) -> None:
        """Sorts the users of the probabilities; every one must be known."""
        ds, weighted = [], []
        for o, x in self.users(p):
            f.ops.append(o)
            if is_product(o):
                self.product_with(f, o, x, p)
            elif o.opdef is op.Mul:
                other = _behind(o.inputs[1] if o.inputs[0] is x else o.inputs[0])
                (ds if other.op.opdef is op.Sub else weighted).append((o, other))
            else:
                raise _Refused
        if f.v.t is p and not ds:
            raise _Refused
        if len(ds) > 1 or len(ds) != len(weighted):
            raise _Refused
        if ds:
            self.gradient(f, p, *ds[0], *weighted[0])
        if not f.exits or f.v.t is p or f.dy is None and any(what != "out" for what, _ in f.exits.values()):
            raise _Refused

    def product_with(self, f: Found, o: Operation, x: Tensor, p: Tensor) -> None:
        """A product that P is a factor of: the output, or the gradient of the values."""
        left, right = factors(o)
        if left.t is x and right.t is x:
            raise _Refused
        if not same_shape(o.outputs[0].sizes[:-2], p.sizes[:-2]):  # type: ignore[index]
            raise _Refused
        if left.t is x and not left.transposed:
            if f.v.t is not p:
                raise _Refused  # two products share the probabilities
            f.v = right
            f.exits[o.outputs[0]] = "out", False
        elif left.t is x:
            self.values_gradient(f, right)
            f.exits[o.outputs[0]] = "dv", False
        elif right.t is x and not right.transposed:
            self.values_gradient(f, left.flipped())
            f.exits[o.outputs[0]] = "dv", True
        else:
            raise _Refused

    def values_gradient(self, f: Found, dy: Matrix) -> None:
        if f.dy is not None and f.dy != dy:
            raise _Refused
        f.dy = dy

    # -- the backward part: dS = (dP - sum(dP * P)) * P, then the steps backwards, then two products

    def gradient(self, f: Found, p: Tensor, last: Operation, inner: Tensor, product: Operation, dp: Tensor) -> None:
        total = _behind(inner.op.inputs[1])
        if _behind(inner.op.inputs[0]) is not dp or total.op.opdef is not op.Sum or not _over_last(total.op):
            raise _Refused
        if _behind(total.op.inputs[0]) is not product.outputs[0]:
            raise _Refused
        if {o for o, _ in self.users(dp)} != {inner.op, product} or self.only_user(product.outputs[0])[0] is not total.op:
            raise _Refused
        if self.only_user(total)[0] is not inner.op or self.only_user(inner)[0] is not last or not is_product(dp.op):
            raise _Refused
        dy, vt = factors(dp.op)
        if f.v.t is p:
            f.v = vt.flipped()
        elif f.v != vt.flipped():
            raise _Refused
        self.values_gradient(f, dy)
        f.ops += [dp.op, inner.op, total.op]
        ds = last.outputs[0]
        for s in reversed(f.steps):
            ds = self.step_back(f, s, ds)
        self.factors_gradient(f, ds)

    def step_back(self, f: Found, s: Step, ds: Tensor) -> Tensor:
        if s.kind in ("add", "sub"):
            return ds
        o, x = self.only_user(ds)
        f.ops.append(o)
        if o.opdef is not s.op.opdef or not _is_gradient_of(s, o, x):
            raise _Refused
        return o.outputs[0]

    def factors_gradient(self, f: Found, ds: Tensor) -> None:
        for o, x in self.users(ds):
            if not is_product(o):
                raise _Refused
            left, right = factors(o)
            if left.t is x:
                what, other, flip = ("dk", f.q, False) if left.transposed else ("dq", f.k, False)
                if right != other:
                    raise _Refused
            else:
                what, other, flip = ("dq", f.k, True) if right.transposed else ("dk", f.q, True)
                if right.t is not x or left.flipped() != other:
                    raise _Refused
            f.ops.append(o)
            f.exits[o.outputs[0]] = what, flip


def _changes_nothing(o: Operation) -> bool:
    """A sum to the shape that a gradient has already."""
    return o.opdef is op.SumToShape and same_shape(o.inputs[0].sizes, o.outputs[0].sizes)


def _behind(t: Tensor) -> Tensor:
    while _changes_nothing(t.op):
        t = t.op.inputs[0]
    return t


def _over_last(o: Operation) -> bool:
    rank = len(o.inputs[0].sizes)  # type: ignore[arg-type]
    return o.attrs["keepdims"] and o.attrs["axis"] is not None and [a % rank for a in o.attrs["axis"]] == [rank - 1]


def _readings(o: Operation) -> list[Step]:
    """The ways in which an op may be a step on scores."""
    d, n = o.opdef, len(o.inputs)
    if d is op.Mul or d is op.Add:
        out = []
        for chain in (0, 1):
            c, mask = splat(o.inputs[1 - chain]), o.inputs[1 - chain]
            if d is op.Mul and c is not None and np.isfinite(c) and c != 0:
                out.append(Step(o, chain, "scale", None, float(c)))
            else:
                out.append(Step(o, chain, "mul" if d is op.Mul else "add", mask, None))
        return out
    if d is op.Sub:
        return [Step(o, 0, "sub", o.inputs[1], None)]
    if d is op.RealDiv:
        c = splat(o.inputs[1])
        return [Step(o, 0, "scale", None, 1.0 / float(c))] if c is not None and np.isfinite(c) and c != 0 else []
    if d is op.Select and n == 3:
        out = []
        for chain in (1, 2):
            found = triangular(o.inputs[3 - chain])
            if found is not None and found[1] == found[2]:
                out.append(Step(o, chain, "keep" if chain == 1 else "drop", o.inputs[0], float(found[1])))
        return out
    return []


def _is_gradient_of(s: Step, o: Operation, x: Tensor) -> bool:
    """Whether `o`, which reads the gradient `x`, is what the gradient of a step is made of."""
    at = [i for i, t in enumerate(o.inputs) if t is x]
    if len(at) != 1:
        return False
    if s.op.opdef is op.Mul:
        mine, its = o.inputs[1 - at[0]], s.op.inputs[1 - s.chain]
        return mine is its or same_constant(mine, its)
    if s.op.opdef is op.RealDiv:
        return at == [0] and (o.inputs[1] is s.op.inputs[1] or same_constant(o.inputs[1], s.op.inputs[1]))
    other = o.inputs[3 - at[0]] if at[0] else x  # Select
    zero = triangular(other)
    return at == [s.chain] and o.inputs[0] is s.op.inputs[0] and zero is not None and zero[1] == zero[2] == 0


class _Replace:
    """The program with the new ops, made in an order that follows what they read."""

    def __init__(self, program: Program, found: list[Found]):
        self.program, self.found = program, found
        self.exits = {t.op: f for f in found for t in f.exits}
        self.new: dict[Tensor, Tensor] = {}
        self.ops: dict[Operation, Operation] = {}

    def run(self) -> Program:
        order = self.order()
        if order is None:
            return self.program
        for f in self.found:
            rewrite.note(RULE, list(dict.fromkeys(f.ops)))
        for o in order:
            f = self.exits.get(o)
            if f is not None:
                self.new[o.outputs[0]] = self.exit(f, o)
                continue
            copy = with_inputs(o, tuple([self.now(t) for t in o.inputs]), tuple([self.ops.get(c, c) for c in o.control_inputs]))
            if copy is not o:
                self.ops[o] = copy
                self.new.update(zip(o.outputs, copy.outputs))
        return self.program.with_roots(self.now, lambda o: self.ops.get(o, o))

    def now(self, t: Tensor) -> Tensor:
        return self.new.get(t, t)

    def reads(self, o: Operation) -> Iterable[Operation]:
        f = self.exits.get(o)
        inputs = o.inputs if f is None else f.operands(f.exits[o.outputs[0]][0])
        return [*o.control_inputs, *[t.op for t in inputs]]

    def order(self) -> list[Operation] | None:
        """Inputs before users; None when an attention would have to read its own result."""
        out: list[Operation] = []
        state: dict[Operation, int] = {}
        stack = [(o, False) for o in reversed([*[t.op for t in self.program.roots()], *self.program.effects])]
        while stack:
            o, done = stack.pop()
            if done:
                state[o] = 2
                out.append(o)
            elif o not in state:
                state[o] = 1
                stack.append((o, True))
                for p in reversed(list(self.reads(o))):
                    if state.get(p) == 1:
                        return None
                    if p not in state:
                        stack.append((p, False))
        return out

    def exit(self, f: Found, o: Operation) -> Tensor:
        what, flip = f.exits[o.outputs[0]]
        with rewrite.Workspace().standing_for(o, f.ops).as_default():
            t = self.forward(f)[0] if what == "out" else self.backward(f)[("dq", "dk", "dv").index(what)]
            return _swapped(t) if flip else t

    def forward(self, f: Found) -> list[Tensor]:
        if "out" not in f.made:
            f.made["attrs"], masks = self.attributes(f)
            f.made["in"] = [m.built(self.now(m.t)) for m in (f.q, f.k, f.v)]
            f.made["masks"] = masks
            f.made["out"] = attention_op(*f.made["in"], *masks, **f.made["attrs"])
        return f.made["out"]

    def backward(self, f: Found) -> list[Tensor]:
        if "grad" not in f.made:
            out, logsum = self.forward(f)
            assert f.dy is not None
            dy = f.dy.built(self.now(f.dy.t))
            product = op.Mul(*(t if t.dtype is logsum.dtype else op.Cast(t, DstT=logsum.dtype) for t in (dy, out)))
            delta = op.Sum(product, axis=(-1,), keepdims=False)
            f.made["grad"] = attention_grad(*f.made["in"], logsum, delta, dy, *f.made["masks"], **f.made["attrs"])
        return f.made["grad"]

    def attributes(self, f: Found) -> tuple[dict[str, Any], list[Tensor]]:
        scale, masks = 1.0, []
        steps: list[tuple[str, Any, float | None]] = []
        for s in f.steps:
            if s.kind == "scale" and not steps:
                scale *= s.fill  # type: ignore[operator]
            elif s.mask is None:
                steps.append((s.kind, None, s.fill))
            else:
                source: Any = triangular(s.mask)
                if source is None:
                    source = len(masks)
                    masks.append(self.now(s.mask))
                steps.append((s.kind, source, s.fill))
        return {"scale": scale, "steps": tuple(steps)}, masks


