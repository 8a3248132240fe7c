"""A kernel compiled for the emulator: basic blocks of steps, each step a Python closure over the slots of its operands.

A step comes in two forms. full(R) computes for all lanes; masked(R, m) for those where m is True. A pure step only writes its own
target, so it may run in its full form whenever the other lanes have exited. Place: `walk` goes through the blocks.
"""
from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from . import access, atomic, warp
from . import integers as I
from .arithmetic import TABLE, Pure, comparison, refuse
from .errors import EmulationError, LaunchFault, OutOfBounds, SyntaxFault, Unsupported
from .inline import inlined
from .memory import LOCAL, SHARED
from .parse import Instruction, Module, Variable, parse
from .values import DTYPES, Slots, immediate

I64, U64, U32, PRED = np.dtype("i8"), np.dtype("u8"), np.dtype("u4"), np.dtype("?")
SPECIAL = {f"%{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in "xyz"} | {
    "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid", "%gridid", "%clock", "%clock64", "%globaltimer", "%lanemask_eq", "%lanemask_le",
    "%lanemask_lt", "%lanemask_ge", "%lanemask_gt", "%dynamic_smem_size", "%total_smem_size", "%envreg3"}
_ENDS = {"bra", "brx", "ret", "exit", "bar", "barrier", "trap"}
_CARRY = {"addc", "subc", "madc"}
_FENCES = {"membar", "fence"}
_ACCESSES = {"ld", "ldu", "st", "atom", "red", "cp"} | _FENCES
_NOTHING = {"nanosleep", "pmevent", "prefetch", "prefetchu", "discard", "applypriority"}


class Step(NamedTuple):
    full: Callable[[list], None]
    masked: Callable[[list, np.ndarray], None]
    pure: bool


class End(NamedTuple):
    """How a block ends. kind: "go", "branch", "index", "exit", "barrier", "trap". targets: blocks; slot: the predicate or index read."""

    kind: str
    ins: Instruction
    targets: tuple[int, ...] = ()
    slot: int | None = None
    negated: bool = False
    barrier: tuple[int, int | None] = (0, None)   # slots: barrier number, threads expected
    reduction: tuple[str, int, int, bool] | None = None  # bar.red: operation, target slot, predicate slot, negated


class Block(NamedTuple):
    steps: list[Step]
    code: list[Instruction]
    end: End
    members: Callable[[list], np.ndarray] | None  # a warp instruction heads the block: the lanes that must take part, as bit masks


class Program:
    """One kernel, ready to launch. params: its parameters with offsets in the block of arguments. apart: every access to memory begins a
    block of instructions, so that others may run before it."""

    def __init__(self, module: Module, name: str, apart: bool = False) -> None:
        self.module, self.function = module, inlined(module, name)
        self.name, self.apart = name, apart
        carries = any(ins.op in _CARRY or "cc" in ins.mods for ins in self.function.instructions)
        self.slots = Slots(self.function.registers | ({"%cc": "?"} if carries else {}))
        self.spaces: dict[str, tuple[str, int]] = {}          # variable -> (space, offset)
        self.params, self.param_bytes = self._parameters()
        self.shared_bytes, self.local_bytes = self._layout()
        self.shared_granule = self.global_granule = 16
        code = self.function.instructions
        self.may_spin = any({"cas", "exch", "volatile", "relaxed", "acquire"} & set(i.mods) for i in code if i.op in ("ld", "atom"))
        self.blocks = self._compile()

    @cached_property
    def fine(self) -> Program:
        """The same kernel, with its accesses apart."""
        return self if self.apart else Program(self.module, self.name, apart=True)

    # Layout -------------------------------------------------------------------------------------------------------------------------
    def _parameters(self) -> tuple[list[tuple[Variable, int]], int]:
        out, at = [], 0
        for v in self.function.params:
            at = -(-at // v.align) * v.align
            out.append((v, at))
            at += v.size
        return out, at

    def _layout(self) -> tuple[int, int]:
        """Offsets of the variables of all spaces; bytes of shared memory a block and local memory a thread."""
        used = {op for ins in self.function.instructions for o in ins.operands for op in [o.strip("[]").split("+")[0]]}
        sizes = {"shared": 0, "local": 0}
        variables = [*self.module.variables.values(), *self.function.variables]
        for extern in (False, True):  # arrays sized by the launch stand behind all others
            for v in variables:
                if v.space in ("global", "const"):
                    self.spaces[v.name] = ("global", 0)
                elif v.space in sizes and (v.size is None) == extern and (v.name in used or v in self.function.variables):
                    at = -(-sizes[v.space] // v.align) * v.align
                    self.spaces[v.name] = (v.space, at)
                    sizes[v.space] = at + (v.size or 0)
        return sizes["shared"], -(-sizes["local"] // 16) * 16

    # Operands -----------------------------------------------------------------------------------------------------------------------
    def value(self, text: str, dtype: np.dtype) -> int:
        """The slot that reads an operand as `dtype`."""
        if text in self.slots.rows:
            return self.slots.source(text, dtype)
        if text in SPECIAL:
            return self.slots.add("special", text, dtype.char)
        literal = immediate(text, dtype)
        if literal is not None:
            return self.slots.constant(literal)
        if text == "WARP_SZ":
            return self.slots.constant(np.array(32, dtype))
        name, _, offset = text.partition("+")
        if name in self.spaces and dtype.kind in "iu":
            space, at = self.spaces[name]
            if space == "global":
                return self.slots.add("symbol", name, int(offset or 0), dtype.char)
            return self.slots.constant(np.array(at + int(offset or 0), dtype))
        place = next((at for v, at in self.params if v.name == name), None)
        if place is not None and dtype.kind in "iu":  # an address in the space of parameters
            return self.slots.constant(np.array(place + int(offset or 0), dtype))
        raise SyntaxFault(f"unknown operand {text}")

    def target(self, text: str, dtype: np.dtype) -> int | None:
        return None if text == "_" else self.slots.target(text, dtype)

    def address(self, text: str) -> Callable[[list, np.ndarray | None], np.ndarray]:
        """The int64 address of each lane, of an operand [register or name + offset]."""
        parts = access.split_address(text)
        if parts is None:
            raise SyntaxFault(f"not an address: {text}")
        base, offset = parts
        if base in self.slots.rows:
            narrow = self.slots.width(base) == 4
            slot = self.slots.source(base, U32 if narrow else I64)
        else:
            narrow, slot = False, self.value(base, I64)
        def at(R, lanes):
            a = R[slot]
            if not a.ndim:
                return np.full(R[0].lanes if lanes is None else lanes.size, int(a) + offset, I64)
            a = a if lanes is None else a[lanes]
            return a.astype(I64) + offset if narrow else a + offset if offset else a
        return at

    # Blocks -------------------------------------------------------------------------------------------------------------------------
    def _compile(self) -> list[Block]:
        f = self.function
        code = f.instructions
        heads = {0, *f.labels.values(), *(i + 1 for i, ins in enumerate(code) if self._ends(ins)),
                 *(i for i, ins in enumerate(code) if warp.is_warp_instruction(ins) or self.apart and self._accesses(ins))}
        starts = sorted(h for h in heads if h < len(code))
        number = {s: n for n, s in enumerate(starts)}
        self.block_of_label = {label: number.get(i, len(starts)) for label, i in f.labels.items()}
        blocks = []
        for n, start in enumerate(starts):
            stop = starts[n + 1] if n + 1 < len(starts) else len(code)
            body = code[start:stop]
            first, last = body[0], body[-1]
            members = self._located(lambda ins: warp.members(self, ins), first) if warp.is_warp_instruction(first) else None
            steps = [self._located(self._step, ins) for ins in (body[:-1] if self._ends(last) else body)]
            end = self._located(lambda ins, n=n: self._end(ins, n + 1), last) if self._ends(last) else End("go", last, (n + 1,))
            blocks.append(Block(steps, body, end, members))
        exit_ = Instruction("exit", (), (), None, code[-1].line if code else f.line, "end of the kernel")
        blocks.append(Block([], [exit_], End("exit", exit_), None))
        return blocks

    def _located(self, make: Callable, ins: Instruction):
        """make(ins); what is wrong with it says where it stands."""
        try:
            return make(ins)
        except EmulationError as e:
            raise type(e)(e.what, kernel=self.name, line=ins.line, instruction=ins.text) from None
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration) as e:
            raise Unsupported(f"instruction cannot be read ({type(e).__name__}: {e})", kernel=self.name, line=ins.line,
                              instruction=ins.text) from e

    @staticmethod
    def _ends(ins: Instruction) -> bool:
        return ins.op in _ENDS and not (ins.op in ("bar", "barrier") and "warp" in ins.mods)

    @staticmethod
    def _accesses(ins: Instruction) -> bool:
        """Whether other threads may see it, or be seen by it."""
        return ins.op in _ACCESSES and not {"param", "const", "local"} & set(ins.mods)

    def _end(self, ins: Instruction, following: int) -> End:
        guard = (self.slots.source(ins.guard[0], PRED), ins.guard[1]) if ins.guard else (None, False)
        if ins.op == "bra":
            return End("branch" if ins.guard else "go", ins, (self.block_of_label[ins.operands[0]], following), *guard)
        if ins.op in ("ret", "exit"):
            return End("exit", ins, (following,), *guard)
        if ins.op == "trap":
            return End("trap", ins, (following,), *guard)
        if ins.op == "brx":
            if ins.guard:
                raise refuse(ins, "with a predicate")
            labels = self.function.tables[ins.operands[1]]
            return End("index", ins, tuple(self.block_of_label[t] for t in labels), self.value(ins.operands[0], U32))
        if ins.guard:
            raise refuse(ins, "a barrier with a predicate")
        return self._barrier(ins, following)

    def _barrier(self, ins: Instruction, following: int) -> End:
        mods = [m for m in ins.mods if m not in ("cta", "aligned")]
        if mods == ["sync"]:
            numbers = [self.value(o, U32) for o in ins.operands]
            return End("barrier", ins, (following,), barrier=(numbers[0], numbers[1] if len(numbers) > 1 else None))
        if mods[:1] == ["red"] and mods[1] in ("popc", "and", "or"):
            target, number, *count, predicate = ins.operands
            negated, predicate = predicate.startswith("!"), predicate.lstrip("!")
            result = self.slots.target(target, U32 if mods[1] == "popc" else PRED)
            return End("barrier", ins, (following,), barrier=(self.value(number, U32), self.value(count[0], U32) if count else None),
                       reduction=(mods[1], result, self.value(predicate, PRED), negated))
        raise refuse(ins)

    # Steps --------------------------------------------------------------------------------------------------------------------------
    def _step(self, ins: Instruction) -> Step:
        step = self._plain(ins)
        return step if ins.guard is None else self._guarded(step, self.slots.source(ins.guard[0], PRED), ins.guard[1])

    @staticmethod
    def _guarded(step: Step, slot: int, negated: bool) -> Step:
        inner_full, inner = step.full, step.masked
        def full(R):
            p = ~R[slot] if negated else R[slot]
            if p.all():
                inner_full(R)
            else:
                inner(R, p.copy())
        def masked(R, m):
            inner(R, m & ~R[slot] if negated else m & R[slot])
        return Step(full, masked, step.pure)

    def _plain(self, ins: Instruction) -> Step:
        op = ins.op
        if op in _CARRY or "cc" in ins.mods:
            return self._carry(ins)
        if op in TABLE:
            pure = _pure_of(ins)
            sources = [self.value(o, d) for o, d in zip(ins.operands[1:], pure.sources, strict=False)]
            if len(ins.operands) - 1 != len(pure.sources) + (op == "lop3"):
                raise SyntaxFault(f"{len(pure.sources) + 1} operands are expected")
            return self._pure(pure.function, sources, self.target(ins.operands[0], pure.result), pure.ufunc
                              and self._fits(ins.operands[0], pure.result))
        if op in ("ld", "ldu") and "param" in ins.mods:
            return self._load_param(ins)
        if op in _FENCES:
            return Step(lambda R: R[0].fence(None), lambda R, m: R[0].fence(m), False)
        special = {"mov": self._mov, "cvta": self._cvta, "setp": self._setp, "set": self._set, "selp": self._selp, "slct": self._slct,
                   "ld": self._load, "ldu": self._load, "st": self._store, "isspacep": self._isspacep}.get(op)
        if special:
            return special(ins)
        if op in atomic.OPERATIONS:
            return self.memory_step(atomic.atomic(self, ins))
        if op == "cp":
            return self.memory_step(atomic.copy(self, ins))
        if warp.is_warp_instruction(ins) or op == "activemask":
            return warp.step(self, ins)
        if op in _NOTHING:
            return Step(lambda R: None, lambda R, m: None, True)
        if op == "call":
            return self._external(ins)
        raise refuse(ins)

    def _fits(self, register: str, result: np.dtype) -> bool:
        return register != "_" and self.slots.width(register) == result.itemsize

    def _pure(self, f: Callable, sources: list[int], target: int | None, ufunc: bool) -> Step:
        """R[target] = f(*R[sources])."""
        copy = np.copyto
        if target is None:
            return Step(lambda R: None, lambda R, m: None, True)
        if len(sources) == 1:
            a, = sources
            full = (lambda R: f(R[a], R[target])) if ufunc else lambda R: copy(R[target], f(R[a]), "unsafe")
            return Step(full, lambda R, m: copy(R[target], f(R[a]), "unsafe", m), True)
        if len(sources) == 2:
            a, b = sources
            full = (lambda R: f(R[a], R[b], R[target])) if ufunc else lambda R: copy(R[target], f(R[a], R[b]), "unsafe")
            return Step(full, lambda R, m: copy(R[target], f(R[a], R[b]), "unsafe", m), True)
        if len(sources) == 3:
            a, b, c = sources
            full = (lambda R: f(R[a], R[b], R[c], R[target])) if ufunc else lambda R: copy(R[target], f(R[a], R[b], R[c]), "unsafe")
            return Step(full, lambda R, m: copy(R[target], f(R[a], R[b], R[c]), "unsafe", m), True)
        return Step(lambda R: copy(R[target], f(*[R[s] for s in sources]), "unsafe"),
                    lambda R, m: copy(R[target], f(*[R[s] for s in sources]), "unsafe", m), True)

    def assign(self, source: int, target: int | None) -> Step:
        return self._pure(lambda a: a, [source], target, False)

    @staticmethod
    def both(steps: list[Step]) -> Step:
        def full(R):
            for s in steps:
                s.full(R)
        def masked(R, m):
            for s in steps:
                s.masked(R, m)
        return steps[0] if len(steps) == 1 else Step(full, masked, all(s.pure for s in steps))

    @staticmethod
    def memory_step(access_: Callable[[list, np.ndarray | None], None]) -> Step:
        def masked(R, m):
            lanes = R[0].lanes_of(m)
            if lanes.size:
                access_(R, lanes)
        return Step(lambda R: access_(R, None), masked, False)

    def predicate(self, text: str) -> tuple[int, bool]:
        """The slot of a predicate operand and whether it stands with "!"."""
        return self.value(text.lstrip("!"), PRED), text.startswith("!")

    def _mov(self, ins: Instruction) -> Step:
        to, source = ins.operands
        d = DTYPES.get(ins.type)
        if d is None or len(ins.mods) != 1:
            raise refuse(ins)
        if source in self.spaces and self.spaces[source][0] == "local" or "{" not in to + source:
            return self.assign(self.value(source, d), self.target(to, d))
        parts = (to if to[0] == "{" else source).strip("{}").split(",")
        piece = np.dtype(f"u{d.itemsize // len(parts)}")
        if to[0] == "{":
            return self._unpack(source, parts, d, piece)
        return self._pack(to, parts, d, piece)

    def _unpack(self, source: str, parts: list[str], d: np.dtype, piece: np.dtype) -> Step:
        whole, bits = self.value(source, np.dtype(f"u{d.itemsize}")), 8 * piece.itemsize
        def take(i):
            shift = np.array(i * bits, f"u{d.itemsize}")
            return lambda a: (a >> shift).astype(piece)
        return self.both([self._pure(take(i), [whole], self.target(p, piece), False) for i, p in enumerate(parts)])

    def _pack(self, to: str, parts: list[str], d: np.dtype, piece: np.dtype) -> Step:
        u, bits = np.dtype(f"u{d.itemsize}"), 8 * piece.itemsize
        def join(*values):
            out = values[0].astype(u)
            for i, v in enumerate(values[1:], 1):
                out = out | v.astype(u) << np.array(i * bits, u)
            return out
        return self._pure(join, [self.value(p, piece) for p in parts], self.target(to, u), False)

    def _cvta(self, ins: Instruction) -> Step:
        to, source = ins.operands
        space = next(m for m in ins.mods if m in access.SPACES)
        d = DTYPES[ins.type]
        shift = {"shared": SHARED, "local": LOCAL}.get(space, 0) * (-1 if "to" in ins.mods else 1)
        value, target = self.value(source, d), self.target(to, d)
        return self.assign(value, target) if not shift else self._pure(lambda a: a + np.array(shift, I64).view(U64).astype(d), [value],
                                                                      target, False)

    def _isspacep(self, ins: Instruction) -> Step:
        space, (to, source) = ins.mods[0], ins.operands
        low, high = {"global": (0, SHARED), "shared": (SHARED, LOCAL), "local": (LOCAL, 1 << 62)}[space]
        return self._pure(lambda a: (a >= np.uint64(low)) & (a < np.uint64(high)), [self.value(source, U64)], self.target(to, PRED), False)

    def _carry(self, ins: Instruction) -> Step:
        """add.cc, subc, madc.hi.cc, ...: sums longer than a register, through the carry flag."""
        rest, d = set(ins.mods[:-1]) - {"cc", "lo", "hi"}, DTYPES[ins.type]
        name = ins.op.removesuffix("c")
        halves = {"lo", "hi"} & set(ins.mods)
        if rest or d.kind not in "iu" or d.itemsize < 4 or name not in ("add", "sub", "mad") or bool(halves) != (name == "mad"):
            raise refuse(ins)
        u = np.dtype(f"u{d.itemsize}")
        multiply = I.multiply_high if "hi" in halves else np.multiply
        combine = I.subtract_borrow if name == "sub" else I.add_carry
        sources = [self.value(o, d) for o in ins.operands[1:]]
        target, flag = self.target(ins.operands[0], u), self.slots.source("%cc", PRED)
        takes, gives = ins.op in _CARRY, "cc" in ins.mods
        def write(R, m):
            values = [R[s] for s in sources]
            x = multiply(*values[:2]).view(u) if name == "mad" else values[0].view(u)
            result, carry = combine(x, values[-1].view(u), R[flag] if takes else np.zeros_like(R[flag]))
            np.copyto(R[target], result, "unsafe", m)
            if gives:
                np.copyto(R[flag], carry, where=m)
        return Step(lambda R: write(R, True), write, True)

    def _setp(self, ins: Instruction) -> Step:
        f, ufunc, join, d = comparison(ins)
        targets = ins.operands[0].split("|")
        a, b = (self.value(o, d) for o in ins.operands[1:3])
        if join is None and len(targets) == 1:
            return self._pure(f, [a, b], self.target(targets[0], PRED), ufunc and targets[0] != "_")
        combine = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor, None: lambda x, c: x}[join]
        c, negated = self.predicate(ins.operands[3]) if join else (a, False)
        slots = [self.target(t, PRED) for t in targets]
        def values(R):
            x, p = f(R[a], R[b]), R[c]
            p = ~p if negated else p
            return [combine(x, p), combine(~x, p)][:len(slots)]
        def full(R):
            for s, v in zip(slots, values(R), strict=True):
                if s is not None:
                    np.copyto(R[s], v)
        def masked(R, m):
            for s, v in zip(slots, values(R), strict=True):
                if s is not None:
                    np.copyto(R[s], v, where=m)
        return Step(full, masked, True)

    def _set(self, ins: Instruction) -> Step:
        to, kind = DTYPES[ins.mods[-2]], ins._replace(mods=(*ins.mods[:-2], ins.mods[-1]))
        f, _, join, d = comparison(kind)
        if join:
            raise refuse(ins)
        true = np.array(1.0, to) if to.kind == "f" else np.array(-1).astype(to)
        return self._pure(lambda a, b: np.where(f(a, b), true, to.type(0)), [self.value(o, d) for o in ins.operands[1:3]],
                          self.target(ins.operands[0], to), False)

    def _selp(self, ins: Instruction) -> Step:
        d = DTYPES[ins.type]
        to, a, b, p = ins.operands
        if len(ins.mods) != 1:
            raise refuse(ins)
        slot, negated = self.predicate(p)
        first, second = (b, a) if negated else (a, b)
        return self._pure(np.where, [slot, self.value(first, d), self.value(second, d)], self.target(to, d), False)

    def _slct(self, ins: Instruction) -> Step:
        d, c = DTYPES[ins.mods[-2]], DTYPES[ins.mods[-1]]
        sources = [self.value(o, t) for o, t in zip(ins.operands[1:], (d, d, c), strict=True)]
        return self._pure(lambda a, b, c: np.where(c >= 0, a, b), sources, self.target(ins.operands[0], d), False)

    @staticmethod
    def _external(ins: Instruction) -> Step:
        name = next(o for o in ins.operands if o[0] != "(")
        def fail(R, m):
            raise R[0].fault(Unsupported, f"a call of {name}, which has no body", ins, None, 0 if m is None else int(np.argmax(m)))
        return Step(lambda R: fail(R, None), lambda R, m: fail(R, m) if m.any() else None, False)

    def _load_param(self, ins: Instruction) -> Step:
        d = DTYPES[ins.type]
        name, offset = access.split_address(ins.operands[1])
        known = {v.name: (v, at) for v, at in self.params}
        if name in self.slots.rows:
            return self._param_at(ins, d)
        if name not in known:
            raise SyntaxFault(f"unknown parameter {name}")
        registers = ins.operands[0].strip("{}").split(",")
        if set(ins.mods[:-1]) - {"param", "v2", "v4"} or offset + d.itemsize * len(registers) > known[name][0].size:
            raise refuse(ins, "beyond the parameter")
        return self.both([self.assign(self.slots.add("param", known[name][1] + offset + i * d.itemsize, d.char), self.target(r, d))
                          for i, r in enumerate(registers)])

    def _param_at(self, ins: Instruction, d: np.dtype) -> Step:
        """Of one of several parameters, chosen by its address."""
        if set(ins.mods[:-1]) - {"param"}:
            raise refuse(ins, "of an address in a register")
        address, target, end = self.address(ins.operands[1]), self.target(ins.operands[0], d), self.param_bytes - d.itemsize
        def run(R, m):
            frame = R[0]
            a = np.broadcast_to(np.asarray(address(R, None)), (frame.lanes,))
            bad = ((a < 0) | (a > end) | (a % d.itemsize != 0)) & (True if m is None else m)
            if bad.any():
                raise frame.fault(OutOfBounds, f"parameter space at {int(a[bad.argmax()])} of {self.param_bytes} bytes", ins, None,
                                  int(bad.argmax()))
            block = np.frombuffer(frame.launch.arguments, "u1")
            places = np.clip(a, 0, end)[:, None] + np.arange(d.itemsize)
            if target is not None:
                np.copyto(R[target], block[places].view(d)[:, 0], "unsafe", True if m is None else m)
        return Step(lambda R: run(R, None), run, False)

    def _memory(self, ins: Instruction, address: str, register: str) -> tuple[str, Callable, np.dtype, list[str]]:
        allowed = {"v2", "v4", "v8", "nc", "volatile", "relaxed", "acquire", "release", "weak", "gpu", "cta", "sys", "cluster", "mmio",
                   "ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1", "L2", "unified"}
        for m in ins.mods[:-1]:
            if m.split("::")[0] not in allowed and m.split("::")[0] not in access.SPACES:
                raise refuse(ins, f"modifier {m}")
        d = DTYPES[ins.type]
        space = access.space_of(ins)
        registers = register.strip("{}").split(",")
        width = d.itemsize * len(registers)
        if width > 16:
            raise refuse(ins, "wider than 16 bytes")
        self.touch(space, width, d.itemsize)
        return space, self.address(address), d, registers

    def touch(self, space: str, width: int, size: int) -> None:
        """Notes the size of an access: races are searched in granules of the smallest."""
        if space in ("shared", "generic"):
            self.shared_granule = min(self.shared_granule, width)
        if space in ("global", "const", "generic"):
            self.global_granule = min(self.global_granule, width)

    def _load(self, ins: Instruction) -> Step:
        space, address, d, registers = self._memory(ins, ins.operands[1], ins.operands[0])
        return self.memory_step(access.loader(ins, space, address, d, [self.target(r, d) for r in registers]))

    def _store(self, ins: Instruction) -> Step:
        space, address, d, registers = self._memory(ins, ins.operands[0], ins.operands[1])
        return self.memory_step(access.storer(ins, space, address, d, [self.value(r, d) for r in registers]))


_PURE: dict[tuple[str, tuple[str, ...]], Pure] = {}


def _pure_of(ins: Instruction) -> Pure:
    """What the table makes of an instruction: the same for all of one name, but lop3 with its table in an operand."""
    found = _PURE.get((ins.op, ins.mods))
    if found is None:
        found = TABLE[ins.op](ins)
        if ins.op != "lop3":
            _PURE[ins.op, ins.mods] = found
    return found


@lru_cache(maxsize=256)
def program(text: str, name: str | None = None) -> Program:
    """The compiled kernel `name` of a PTX text (None: its only one). Raises LaunchFault for unknown names, Unsupported, SyntaxFault."""
    collects = gc.isenabled()
    gc.disable()  # a kernel is many small objects that stay: collecting among them doubles the time
    try:
        module = parse(text)
        if name is None:
            if len(module.kernels) != 1:
                raise LaunchFault(f"the module has {len(module.kernels)} kernels ({', '.join(module.kernels)}): name one")
            name = module.kernels[0]
        if name not in module.kernels:
            raise LaunchFault(f"no kernel {name}; the module has {', '.join(module.kernels) or 'none'}")
        return Program(module, name)
    finally:
        if collects:
            gc.enable()
