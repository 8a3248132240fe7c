"""Calls opened: the body of each called .func put in the place of its call, parameters turned into registers."""
from __future__ import annotations

from .errors import Unsupported
from .parse import Function, Module


def inlined(module: Module, name: str) -> Function:
    """The kernel `name` without calls."""
    f = module.functions[name]
    calls = [ins for ins in f.instructions if ins.op == "call"]
    if not calls:
        return f
    raise Unsupported("call", kernel=name, line=calls[0].line, instruction=calls[0].text)
