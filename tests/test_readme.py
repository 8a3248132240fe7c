"""README and docs: their code runs, their commands and links exist, what they print is what the compiler prints."""
from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(path: Path, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.S)


def run_snippets(path: Path, prelude: str = "") -> dict:
    """Runs the page's blocks in order in one namespace, and gives that."""
    names: dict = {"__name__": path.stem}
    for i, code in enumerate([prelude, *snippets(path)]):
        exec(compile(code, f"{path.name}[{i}]", "exec"), names)
    return names


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md", "docs/differences.md", "docs/control_flow.md", "docs/recurrent.md",
                                  "docs/summaries.md", "docs/data.md", "docs/queues.md", "docs/training.md",
                                  "docs/features.md", "docs/records.md", "docs/devices.md", "docs/gpu.md"])
def test_code_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_snippets(ROOT / page)


def test_readme_program_learns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_snippets(ROOT / "README.md")["error"] < 0.2
    assert "<svg" in (tmp_path / "step.html").read_text(encoding="utf-8")


ADDED_OPS = """
import importlib.util, sys
sys.path.insert(0, "tests")
from test_readme import ROOT, run_snippets
import graphflow as tf
import graphflow.ops.opdef as opdef

run_snippets(ROOT / "docs" / "add-an-op.md")
added = [op for op in opdef.REGISTRY.values() if op.__module__ == "add-an-op"]
spec = importlib.util.spec_from_file_location("test_ops", ROOT / "tests" / "test_ops.py")
tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tests)
for op in added:
    assert op in tests.COVERED, op.type
    for check in (tests.test_inference, tests.test_reference, tests.test_special_values, tests.test_compiled, tests.test_gradient,
                  tests.test_compiled_gradient):
        with tf.Graph().as_default():
            check(op)
print(*[op.type for op in added])
"""


def test_ops_of_the_page_pass_the_automatic_tests():
    """In a process of its own: the registry stays as it is."""
    done = subprocess.run([sys.executable, "-c", ADDED_OPS], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["Bump", "RmsNormalize"]


def test_rules_page():
    """The rule of docs/rules.md holds and fires; the pass is registered and taken out again."""
    from graphflow.passes import algebra, pipeline

    rules, passes = list(algebra.ALGEBRA.rules), pipeline.current()
    try:
        names = run_snippets(ROOT / "docs" / "rules.md", "import graphflow as tf")
        assert names["r"] in algebra.ALGEBRA.rules
        assert len(pipeline.current()) == len(passes) + 1
    finally:
        pipeline.unregister_pass("my_pass")
        algebra.ALGEBRA.remove("sin(x)^2 + cos(x)^2 = 1")
    assert (algebra.ALGEBRA.rules, pipeline.current()) == (rules, passes)


# ---------------------------------------------------------------- what the compiler prints


def walk():
    spec = importlib.util.spec_from_file_location("walk", ROOT / "docs" / "walk.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.cpu_only(reason="texts of its kernels")
def test_machine_code_page_shows_what_the_compiler_prints():
    found = walk().stale((ROOT / "docs" / "machine-code.md").read_text(encoding="utf-8"))
    assert found == [], "run: python docs/walk.py"


@pytest.mark.cpu_only(reason="texts of its kernels")
def test_machine_code_page_is_filled():
    tool = walk()
    filled = {name: text for _, name, text, _ in tool.BLOCK.findall((ROOT / "docs" / "machine-code.md").read_text(encoding="utf-8"))}
    assert set(filled) == {"program", *tool.blocks((ROOT / "docs" / "machine-code.md").read_text(encoding="utf-8"))}
    assert all(text.strip() for text in filled.values())


# ---------------------------------------------------------------- commands, links, names


COMMANDS = [line for block in snippets(ROOT / "README.md", "bash") for line in block.strip().splitlines()]


def test_the_two_commands():
    assert len(COMMANDS) == 2
    assert "pip install -e '.[examples]' && python examples/digits.py" in COMMANDS
    assert (ROOT / "examples" / "digits.py").is_file()


def test_ci_runs_exactly_the_second_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    second = next(c for c in COMMANDS if "pytest" in c)
    install, test = second.split(" && ")
    assert re.search(rf"^{re.escape(install.replace('pip install', 'pip install -q'))} && {re.escape(test)} \|", text, re.M)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_extras_of_the_commands_exist():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for c in COMMANDS for group in re.findall(r"\[([\w,]+)\]", c) for name in group.split(",")}
    assert named == {"examples", "test"}
    assert named <= set(extras)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r'src="(?!http)([^"]+)"', text)
    missing = [t for t in targets if not (page.parent / t).exists()]
    named = re.findall(r"`((?:graphflow|docs|examples|benchmarks|tests)/[\w/.]*)`", text)
    assert missing + [n for n in named if not (ROOT / n).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_names_in_the_pages_exist(page):
    """Every `tf.name` that a page mentions, but for the section that says what is missing."""
    import graphflow as tf

    text = re.sub(r"^## Limits.*?(?=^## |\Z)", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for name in sorted(set(re.findall(r"\btf\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", text))):
        found = tf
        for part in name.split("."):
            assert hasattr(found, part), f"tf.{name}"
            found = getattr(found, part)


@pytest.mark.parametrize("page", [p for p in PAGES if "\n## Limits" in p.read_text(encoding="utf-8")], ids=lambda p: p.name)
def test_what_is_said_to_be_missing_is_missing(page):
    import graphflow as tf

    limits = re.search(r"^## Limits.*?(?=^## |\Z)", page.read_text(encoding="utf-8"), flags=re.S | re.M)[0]
    missing = next(item for item in re.split(r"^- ", limits, flags=re.M) if "yet" in item)
    names = re.findall(r"`tf\.(\w+)", missing)
    assert len(names) > 4
    assert [n for n in names if hasattr(tf, n) and n != "nn"] == []


def test_flags_named_in_the_pages_exist():
    from graphflow.flags import TABLE

    for page in PAGES:
        for name in re.findall(r"GRAPHFLOW_([A-Z_]+)\b", page.read_text(encoding="utf-8")):
            assert name in {"VERSION", "THREADING_LAYER"} or name.lower() in TABLE, f"{page.name}: GRAPHFLOW_{name}"


def test_readme_shows_numbers_only_from_the_benchmarks():
    """Speed is reported between the two marks, or nowhere."""
    begin, end = README.index("<!-- benchmarks"), README.index("<!-- end of benchmarks -->")
    assert begin < end
    outside = README[:begin] + README[end:]
    assert not re.search(r"\d+(\.\d+)? ?(us|µs|ms|GFLOP|x faster)", outside)
