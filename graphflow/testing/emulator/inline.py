"""Calls opened: the body of each called .func stands in the place of its call, its registers, labels and variables renamed.

Parameters of calls become local variables, so a call's arguments count as local memory; on a GPU too a call is dear. A function
without a body (printf, malloc) stays a call, which is an error once a thread comes to it.
"""
from __future__ import annotations

import re
from dataclasses import replace

from .errors import Unsupported
from .parse import Function, Instruction, Module

_NAME = re.compile(r"[%$A-Za-z_][\w$%@~]*")
_MOST = 200_000  # instructions


def inlined(module: Module, name: str) -> Function:
    """The kernel `name` without calls. Raises Unsupported for recursion and calls by address."""
    f = module.functions[name]
    return f if all(ins.op != "call" for ins in f.instructions) else _Opening(module, f).result()


class _Opening:
    def __init__(self, module: Module, kernel: Function) -> None:
        self.module, self.kernel, self.count = module, kernel, 0
        self.out = replace(kernel, instructions=[], labels={}, tables=dict(kernel.tables), registers=dict(kernel.registers), variables=[])

    def result(self) -> Function:
        self.body(self.kernel, {}, "", (self.kernel.name,))
        return self.out

    def body(self, f: Function, names: dict[str, str], end: str, chain: tuple[str, ...]) -> None:
        """Appends f's instructions with `names` replaced; a `ret` inside a callee goes to the label `end`."""
        out, at = self.out, {}
        for label, i in f.labels.items():
            at.setdefault(i, []).append(names.get(label, label))
        passed = {v.name for v in f.variables if v.space == "param"} | ({v.name for v in [*f.params, *f.results]} if end else set())
        out.variables += [v._replace(name=names.get(v.name, v.name), space="local" if v.space == "param" else v.space) for v in f.variables]
        for i, ins in enumerate(f.instructions):
            for label in at.get(i, ()):
                out.labels[label] = len(out.instructions)
            self.instruction(ins, names, passed, end, chain)
        for label in at.get(len(f.instructions), ()):
            out.labels[label] = len(out.instructions)
        if len(out.instructions) > _MOST:
            raise Unsupported(f"more than {_MOST} instructions after opening calls", kernel=self.kernel.name)

    def instruction(self, ins: Instruction, names: dict[str, str], passed: set[str], end: str, chain: tuple[str, ...]) -> None:
        def renamed(text: str) -> str:
            return _NAME.sub(lambda m: names.get(m[0], m[0]), text)
        operands = tuple(map(renamed, ins.operands))
        guard = (names.get(ins.guard[0], ins.guard[0]), ins.guard[1]) if ins.guard else None
        mods = ins.mods
        if ins.op in ("ld", "st") and "param" in mods and any(set(_NAME.findall(o)) & passed for o in ins.operands if o[0] == "["):
            mods = tuple("local" if m == "param" else m for m in mods)
        made = ins._replace(operands=operands, guard=guard, mods=mods)
        if ins.op == "call":
            self.call(made, chain)
        elif ins.op == "ret" and end:
            self.out.instructions.append(made._replace(op="bra", mods=(), operands=(end,)))
        else:
            self.out.instructions.append(made)

    def call(self, ins: Instruction, chain: tuple[str, ...]) -> None:
        place = next(i for i, o in enumerate(ins.operands) if o[0] != "(")
        results, arguments = ([n for o in part if o[0] == "(" for n in o.strip("()").split(",") if n]
                              for part in (ins.operands[:place], ins.operands[place + 1:]))
        f = self.module.functions.get(ins.operands[place])
        if f is None:
            raise Unsupported("a call by address", kernel=self.kernel.name, line=ins.line, instruction=ins.text)
        if f.name in chain:
            raise Unsupported(f"{f.name} calls itself", kernel=self.kernel.name, line=ins.line, instruction=ins.text)
        if not f.instructions:
            self.out.instructions.append(ins)
            return
        self.count += 1
        tag = f"~{self.count}"
        own = [*f.registers, *f.labels, *f.tables, *(v.name for v in f.variables if v.space != "shared")]
        names = {n: n + tag for n in own}
        names |= dict(zip([v.name for v in [*f.results, *f.params]], [*results, *arguments], strict=True))
        self.out.registers |= {names[r]: pool for r, pool in f.registers.items()}
        self.out.tables |= {names[t]: [names[label] for label in labels] for t, labels in f.tables.items()}
        end = f"end{tag}"
        if ins.guard:
            self.out.instructions.append(ins._replace(op="bra", mods=(), operands=(end,), guard=(ins.guard[0], not ins.guard[1])))
        self.body(f, names, end, (*chain, f.name))
        self.out.labels[end] = len(self.out.instructions)
