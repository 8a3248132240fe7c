"""Python 2 sources, converted in memory: `graphflow run --python2`.

The grammar is lib2to3's, which Python has up to 3.12; later ones need its continuation `fissix` (the extra `python2`).  What 2to3 leaves
alone, an integer quotient cut down, is done here: `/` of two integers, or arrays of them, is `//` in a module without
`from __future__ import division`.
"""
from __future__ import annotations

import ast
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import sys
import tokenize
import types
import warnings
from typing import Any, Sequence

import numpy as np

DIVIDE, DIVIDE_IN_PLACE = "__quotient_of_python2__", "__quotient_in_place_of_python2__"


@functools.cache
def _tool() -> Any:
    """lib2to3's refactoring tool with all its fixers.  Raises ImportError where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from lib2to3 import refactor  # type: ignore[import-not-found]
        except ImportError:
            try:
                from fissix import refactor  # type: ignore[import-not-found,no-redef]
            except ImportError:
                raise ImportError("converting Python 2 needs lib2to3, which this Python no longer has: pip install 'graphflow[python2]'"
                                  ) from None
        return refactor.RefactoringTool(refactor.get_fixers_from_package(refactor.__name__.rpartition(".")[0] + ".fixes"))


def _text(source: bytes) -> str:
    encoding = tokenize.detect_encoding(io.BytesIO(source).readline)[0]
    return source.decode(encoding, "replace").replace("\r\n", "\n").expandtabs(8) + "\n"


@functools.lru_cache(8)
def looks_old(source: bytes) -> bool:
    """Whether a source that Python cannot compile is one that 2to3 can convert."""
    try:
        compile(source, "<source>", "exec", dont_inherit=True)
        return False
    except (SyntaxError, ValueError):
        pass
    try:
        compile(str(_tool().refactor_string(_text(source), "<source>")), "<source>", "exec", dont_inherit=True)
    except ImportError:
        return b"print " in source
    except Exception:  # lib2to3 has its own errors for what is no Python at all
        return False
    return True


def compiled(source: bytes, path: str) -> types.CodeType:
    """The code of a Python 2 source; line numbers are the source's.

    Raises:
        SyntaxError: it is no Python 2 either.  ImportError: there is no converter.
    """
    tool = _tool()
    try:
        text = str(tool.refactor_string(_text(source), path))
    except ImportError:
        raise
    except Exception as e:
        raise SyntaxError(f"neither Python 3 nor Python 2: {e}") from None
    tree = ast.parse(text, path)
    futures = {a.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__" for a in node.names}
    if b"division" not in source or "division" not in futures | _futures(source):
        tree = ast.fix_missing_locations(_Quotients().visit(tree))
    return compile(tree, path, "exec", dont_inherit=True)


def _futures(source: bytes) -> set[str]:
    """Names after `from __future__ import`, which 2to3 takes away."""
    found: set[str] = set()
    for line in source.splitlines():
        if line.startswith(b"from __future__ import"):
            found.update(n.strip(" ()\\") for n in line.decode("utf-8", "replace").partition("import")[2].split("#")[0].split(","))
    return found


class _Quotients(ast.NodeTransformer):
    """`a / b` and `a /= b` become calls that cut down a quotient of two ints."""

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        return _call(DIVIDE, node.left, node.right, node) if isinstance(node.op, ast.Div) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        twice = not any(isinstance(n, ast.Call | ast.NamedExpr | ast.Await) for n in ast.walk(node.target))  # may be evaluated again
        if not isinstance(node.op, ast.Div) or not twice:
            return node
        read = ast.parse(ast.unparse(node.target), mode="eval").body
        for part in ast.walk(read):
            ast.copy_location(part, node)
        return ast.copy_location(ast.Assign([node.target], _call(DIVIDE_IN_PLACE, read, node.value, node)), node)


def _call(name: str, left: ast.expr, right: ast.expr, at: ast.AST) -> ast.expr:
    return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), [left, right], []), at)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) or isinstance(value, np.ndarray) and value.dtype.kind in "iub"


def quotient(a: Any, b: Any) -> Any:
    """Python 2's `a / b`."""
    return a // b if _whole(a) and _whole(b) else a / b


def quotient_in_place(a: Any, b: Any) -> Any:
    """Python 2's `a /= b`, which changes an array itself."""
    if _whole(a) and _whole(b):
        a //= b
    else:
        a /= b
    return a


class _Loader(importlib.abc.SourceLoader):
    def __init__(self, name: str, path: str):
        self.name, self.path = name, path

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: Any) -> bytes:
        with open(path, "rb") as f:
            return f.read()

    def get_code(self, fullname: str) -> types.CodeType:  # type: ignore[override]
        return compiled(self.get_data(self.path), self.path)


class _Finder(importlib.abc.MetaPathFinder):
    """Modules below one folder, converted; a package's own folder comes first, as Python 2's implicit relative imports have it."""

    def __init__(self, folder: str):
        self.folder = os.path.realpath(folder)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, path if path is not None else [self.folder, *sys.path])
        origin = os.path.realpath(spec.origin) if spec is not None and spec.origin else ""
        if not origin.endswith(".py") or not origin.startswith(self.folder + os.sep) or f"{os.sep}site-packages{os.sep}" in origin:
            return None
        return importlib.util.spec_from_file_location(name, origin, loader=_Loader(name, origin),
                                                      submodule_search_locations=spec.submodule_search_locations)


def install(folder: str) -> None:
    """Converts every module imported from below `folder`; gives back the builtins that 2to3 does not rename."""
    import builtins

    given = {DIVIDE: quotient, DIVIDE_IN_PLACE: quotient_in_place, "unicode": str, "long": int, "xrange": range, "raw_input": input,
             "unichr": chr, "reload": importlib.reload, "basestring": str}
    for name, value in given.items():
        if not hasattr(builtins, name):
            setattr(builtins, name, value)
    sys.meta_path.insert(0, _Finder(folder))
