"""Who may import whom: every module imports strictly lower ranks, or its neighbours in its own layer.

Read from the source with `ast`, so imports inside functions count too.
"""
from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "graphflow"

# The longest prefix decides. Equal ranks may import each other only inside one layer (the second column).
LAYERS: dict[str, tuple[float, str]] = {
    "types": (0, "types"), "errors": (0, "errors"), "flags": (0, "flags"), "locks": (0, "locks"), "device_spec": (0, "device_spec"),
    "version": (0, "version"),
    "proto": (1, "proto"),                    # messages and files of records: bytes, no graph
    "config": (1, "config"),                  # messages that a Session takes
    "graph": (1, "graph"), "codegen.ir": (1, "ir"),
    "debug.draw": (2, "draw"),                # pictures of any ops: knows the graph only
    "ops.opdef": (2, "opdef"), "ops": (3, "ops"),
    "passes": (4, "passes"), "codegen": (4, "codegen"),
    "runtime": (5, "runtime"),
    "debug.timeline": (6, "timeline"),
    "session": (7, "session"),
    "debug": (8, "debug"),
    "": (9, "libraries"),                     # nn, layers, train, ...: written on all of it
}
# Upward, inside a function: methods of TF1's Graph whose work is done elsewhere, and observers that a flag switches on.
DELEGATES = {("types", "proto"), ("graph", "debug.draw"), ("graph", "graph_def"), ("passes.pipeline", "debug.draw"),
             *[("runtime.executable", f"debug.{observer}") for observer in ("checked", "ladder", "timeline")]}
# The kernel and text levels: sizes, strides, dtypes and axes, no ops.
KERNEL_LEVEL = {"ir", "simplify", "schedule", "emit_cpu", "helpers", "vecmath", "vecmath_tables", "machine", "intrinsics",
                "backend", "translate", "target", "cache", "compile", "interp"}
# Third parties, and who may touch them.
COMPILER = {"codegen.backend", "codegen.translate", "codegen.intrinsics", "codegen.machine", "codegen.vecmath", "codegen.target",
            "codegen.cuda.words", "codegen.cuda.functions", "codegen.cuda.ptx"}
THIRD_PARTIES = {"numba": COMPILER, "llvmlite": COMPILER | {"testing.emulator.fused"}, "networkx": {"debug.draw", "passes.recompute"}}


class Import(NamedTuple):
    module: str   # who imports, without the leading "graphflow."
    target: str   # what: a module of graphflow without the prefix, or a third party's full name
    own: bool     # graphflow's own module
    lazy: bool    # inside a function
    line: int


@cache
def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def _absolute(name: str, path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = f"graphflow.{name}".rstrip(".").split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    return ".".join([*package[:len(package) - node.level + 1], *([node.module] if node.module else [])])


def _targets(name: str, path: Path, node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [a.name for a in node.names]
    if isinstance(node, ast.ImportFrom):
        base = _absolute(name, path, node)
        inside = [f"{base}.{a.name}" for a in node.names if _own(f"{base}.{a.name}") in modules()]
        return inside + ([base] if len(inside) < len(node.names) else [])
    return []


def _own(full: str) -> str | None:
    return full.removeprefix("graphflow").lstrip(".") if full.split(".")[0] == "graphflow" else None


def _walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child, lazy
        yield from _walk(child, lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


@cache
def imports() -> list[Import]:
    found = []
    for name, path in modules().items():
        for node, lazy in _walk(ast.parse(path.read_text(encoding="utf-8"))):
            for full in _targets(name, path, node):
                own = _own(full)
                found.append(Import(name, full if own is None else own, own is not None, lazy, node.lineno))
    return found


def layer(module: str) -> tuple[float, str]:
    parts = module.split(".")
    return next(LAYERS[key] for n in range(len(parts), -1, -1) if (key := ".".join(parts[:n])) in LAYERS)


def allowed(i: Import) -> bool:
    (rank, place), (target_rank, target_place) = layer(i.module), layer(i.target)
    if i.target == "":  # the package itself: its names are complete only after import
        return i.lazy or layer(i.module)[1] == "libraries"
    return target_rank < rank or place == target_place or (i.lazy and (i.module, i.target) in DELEGATES)


def test_every_import_goes_down():
    wrong = [f"{i.module or '__init__'}:{i.line} imports {i.target}" for i in imports() if i.own and not allowed(i)]
    assert wrong == []


def test_passes_and_codegen_do_not_know_each_other():
    """The narrow waist is Kernel IR, which belongs to neither."""
    wrong = [i for i in imports() if i.own and {i.module.split(".")[0], i.target.split(".")[0]} == {"passes", "codegen"}
             and i.target != "codegen.ir"]
    assert wrong == []


def test_the_kernel_level_knows_no_ops():
    wrong = [i for i in imports() if i.own and i.module.startswith("codegen.") and i.module.split(".")[1] in KERNEL_LEVEL
             and i.target != "ops.special"  # NumPy formulas of scalar functions
             and (i.target in ("graph", "") or i.target.split(".")[0] in ("ops", "passes", "runtime"))]
    assert wrong == []


@pytest.mark.parametrize("package", THIRD_PARTIES)
def test_third_parties_are_touched_in_few_places(package):
    assert {i.module for i in imports() if not i.own and i.target.split(".")[0] == package} <= THIRD_PARTIES[package]


def test_importing_graphflow_imports_no_third_party_but_numpy():
    eager: dict[str, set[str]] = {}
    for i in imports():
        if not i.lazy:
            eager.setdefault(i.module, set()).add(i.target if i.own else "third party " + i.target.split(".")[0])
    seen, todo = set(), [""]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            parents = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
            todo += [*eager.get(name, ()), *parents]
    import sys

    outside = {n.removeprefix("third party ") for n in seen if n.startswith("third party ")} - sys.stdlib_module_names
    assert outside - {"__future__"} == {"numpy"}
    assert len(seen) > 40  # the walk went through the package


def test_the_reader_of_imports_sees_all_forms(tmp_path):
    """A test of this file's own tool, on the forms that occur."""
    code = "from . import graph\nfrom .codegen import ir\ndef f():\n    from .debug.draw import to_dot\n    import numba.core\n"
    nodes = [(t, lazy) for node, lazy in _walk(ast.parse(code)) for t in _targets("session", PACKAGE / "session.py", node)]
    assert nodes == [("graphflow.graph", False), ("graphflow.codegen.ir", False), ("graphflow.debug.draw", True), ("numba.core", True)]
    assert not allowed(Import("graph", "session", True, True, 1))
    assert not allowed(Import("ops.state", "passes.cse", True, False, 1))
    assert allowed(Import("passes.cse", "ops.opdef", True, False, 1))
