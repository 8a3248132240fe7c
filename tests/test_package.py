"""The package: what importing it costs, what it needs, and its second name `compat.v1`."""
from __future__ import annotations

import configparser
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import graphflow as tf
import graphflow.compat.v1 as v1

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Loading one of these costs more than graphflow itself.
HEAVY = ("numba", "llvmlite", "networkx", "scipy", "matplotlib", "sklearn", "tqdm", "safetensors", "concurrent.futures", "multiprocessing",
         "asyncio", "email", "http")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


BUILD_A_GRAPH = """
x = tf.placeholder(tf.float32, [None, 3])
w = tf.get_variable("w", [3, 2])
loss = tf.reduce_sum(tf.nn.softmax(tf.matmul(x, w)))
step = tf.train.AdamOptimizer().minimize(loss)
assert tf.get_default_graph().to_dot().startswith("digraph")
"""


@pytest.mark.parametrize("code", ["", BUILD_A_GRAPH], ids=["import", "build"])
def test_importing_and_building_load_no_compiler(code):
    loaded = python(f"import sys\nimport graphflow as tf\n{code}\nprint(*[m for m in {HEAVY} if m in sys.modules])")
    assert loaded.split() == []


def test_the_reference_interpreter_needs_no_compiler():
    code = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = sys.modules["networkx"] = None  # importing one of them raises
import graphflow as tf
from graphflow.flags import flags
with flags.override(interpret=1), tf.Session() as sess:
    print(sess.run(tf.reduce_sum(tf.square(tf.constant([1.0, 2.0, 3.0])))))
"""
    assert python(code).strip() == "14.0"


def test_the_runtime_needs_four_packages():
    assert sorted(re.split(r"[<>=]", d)[0] for d in PROJECT["dependencies"]) == ["llvmlite", "networkx", "numba", "numpy"]
    assert sorted(PROJECT["optional-dependencies"]) == ["bench", "cuda-libs", "cuda-test", "docs", "examples", "images", "python2", "scipy",
                                                        "tensorboard", "test"]
    assert PROJECT["license"] == "Apache-2.0"


def test_the_installed_packages_are_the_ones_declared():
    from packaging.requirements import Requirement  # a dependency of pytest

    for text in PROJECT["dependencies"]:
        need = Requirement(text)
        assert importlib.metadata.version(need.name) in need.specifier


def test_imports_name_declared_packages_only():
    """Every third-party package that graphflow imports is one of its dependencies, or of an extra, which only functions import."""
    import ast

    allowed = {"graphflow", *(re.split(r"[<>=]", d)[0] for d in PROJECT["dependencies"])}
    modules = {"scikit-learn": "sklearn", "pillow": "PIL"}
    extras = {modules.get(name, name) for group in PROJECT["optional-dependencies"].values() for d in group
              for name in [re.split(r"[<>=]", d)[0]]}
    for path in (ROOT / "graphflow").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and not node.level and node.module else [])
            for name in names:
                top = name.split(".")[0]
                known = top in allowed or top in sys.stdlib_module_names or top in extras and id(node) in lazy
                assert known, f"{path}:{node.lineno} imports {name}"


def test_versions():
    """TF1 programs compare `tf.__version__`; the package has a version of its own."""
    assert tf.__version__ == tf.VERSION
    assert tf.VERSION.split(".")[:2] == ["1", "15"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", tf.GRAPHFLOW_VERSION)


def test_typed_and_configured():
    assert (ROOT / "graphflow" / "py.typed").is_file()
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert {"tool:pytest", "mypy"} <= set(setup.sections())


def public(module):
    return {n for n in dir(module) if not n.startswith("_")}


def test_compat_v1_is_the_same_names():
    assert public(v1) == public(tf)
    assert all(getattr(v1, n) is getattr(tf, n) for n in public(tf))
    assert tf.compat.v1 is v1


def test_compat_v1_runs_a_program_written_for_it():
    v1.disable_v2_behavior()
    v1.disable_eager_execution()
    assert not v1.executing_eagerly()
    x = v1.placeholder(v1.float32, [None])
    with v1.Session() as sess:
        assert sess.run(v1.reduce_sum(x), {x: [1, 2]}) == 3


def test_compat_v1_unknown_name():
    with pytest.raises(AttributeError, match=r"graphflow\.compat\.v1.*no_such_name"):
        v1.no_such_name


def test_star_import():
    names: dict = {}
    exec("from graphflow.compat.v1 import *", names)
    assert names["placeholder"] is tf.placeholder


@pytest.mark.parametrize("value", ["grüße", "grüße".encode()])
def test_text_helpers(value):
    assert tf.compat.as_bytes(value) == "grüße".encode()
    assert tf.compat.as_text(value) == tf.compat.as_str(value) == tf.compat.as_str_any(value) == "grüße"


def test_text_helpers_refuse_other_types():
    for helper in (tf.compat.as_bytes, tf.compat.as_text):
        with pytest.raises(TypeError, match="Expected binary or unicode string, got 3"):
            helper(3)
    assert tf.compat.as_str_any(3) == "3"
    assert tf.compat.path_to_str(Path("a")) == "a"
