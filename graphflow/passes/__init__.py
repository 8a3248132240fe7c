"""Passes over programs: each a pure function, in the order of pipeline.PIPELINE.

For users: `passes.rule` adds a rule, `passes.register_pass` a pass, `passes.check_rule` tests a rule; see docs/rules.md.
"""
from typing import Any

_WHERE = {"PIPELINE": "pipeline", "Pass": "pipeline", "register_pass": "pipeline", "unregister_pass": "pipeline", "run": "pipeline",
          "verify": "pipeline", "Program": "program", "op": "rewrite", "op_rule": "rewrite", "rule": "rewrite", "table": "rewrite",
          "check_rule": "check"}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Loads what is asked for, so that building graphs needs no pass."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return found
