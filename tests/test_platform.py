"""tf.app, tf.flags, tf.logging, tf.gfile, tf.test: what TF1 programs use around the graph."""
from __future__ import annotations

import enum
import logging
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.fixture
def F():
    """A set of flags of its own; `F.define(kind, ...)` adds to it."""
    values = tf.flags.FlagValues()
    values.__dict__["define"] = lambda kind, *args, **kw: getattr(tf.flags, f"DEFINE_{kind}")(*args, flag_values=values, **kw)
    return values


# ---------------------------------------------------------------- flags


def defined(F):
    F.define("string", "data_dir", "/tmp", "where")
    F.define("integer", "steps", 10, "how many")
    F.define("float", "rate", 0.5, "how fast")
    F.define("boolean", "train", True, "whether")
    F.define("list", "layers", "64,32", "sizes")
    F.define("enum", "mode", "fast", ["fast", "slow"], "how")
    F.define("multi_integer", "gpu", [0], "which")
    return F


@pytest.mark.parametrize("args, name, value", [
    ([], "data_dir", "/tmp"), ([], "layers", ["64", "32"]), ([], "gpu", [0]), (["--steps=0x10"], "steps", 16), (["--steps", "-3"], "steps",
                                                                                                                -3),
    (["-steps=4"], "steps", 4), (["--rate=1e-3"], "rate", 0.001), (["--notrain"], "train", False), (["--train=false"], "train", False),
    (["--train=T"], "train", True), (["--train"], "train", True), (["--mode=slow"], "mode", "slow"), (["--layers=a, b"], "layers", ["a",
                                                                                                                                    "b"]),
    (["--data_dir="], "data_dir", ""), (["--gpu=1", "--gpu=2"], "gpu", [1, 2]), (["x", "--steps=7"], "steps", 7), (["--", "--steps=7"],
                                                                                                                   "steps", 10)])
def test_flag_values(F, args, name, value):
    defined(F)(["prog", *args])
    assert getattr(F, name) == value and type(getattr(F, name)) is type(value)
    assert F.flag_values_dict()[name] == value


@pytest.mark.parametrize("args, error, words", [
    (["--stepz=1"], tf.flags.UnrecognizedFlagError, "Unknown command line flag 'stepz'. Did you mean 'steps'"),
    (["--steps=ten"], tf.flags.IllegalFlagValueError, "flag --steps=ten"), (["--rate=x"], tf.flags.IllegalFlagValueError, "flag --rate=x"),
    (["--train=maybe"], tf.flags.IllegalFlagValueError, "flag --train=maybe"), (["--mode=other"], tf.flags.IllegalFlagValueError,
                                                                                "<fast|slow>"),
    (["--steps"], tf.flags.Error, "Missing value for flag --steps"), (["--notrain=1"], tf.flags.IllegalFlagValueError, "notrain")])
def test_bad_command_lines(F, args, error, words):
    with pytest.raises(error, match=re.escape(words)):
        defined(F)(["prog", *args])


def test_flags_left_over(F):
    defined(F)
    assert F(["prog", "a", "--steps=1", "b"]) == ["prog", "a", "b"]
    assert F(["prog", "--other=1", "--steps=2", "b"], known_only=True) == ["prog", "--other=1", "b"]
    assert F.steps == 2 and F["steps"].present == 1 and F["rate"].present == 0


def test_flags_as_attributes(F):
    defined(F)(["prog"])
    F.steps = 5
    assert F.steps == 5 and "steps" in F and len(F) == 7 and sorted(F) == dir(F)
    with pytest.raises(AttributeError, match="Did you mean 'rate'"):
        _ = F.ratee
    with pytest.raises(AttributeError, match="nothing"):
        F.nothing = 1
    del F.steps
    assert not hasattr(F, "steps") and vars(F)["_flags"]["rate"].value == 0.5


def test_required_and_bounded_flags(F):
    F.define("string", "name", None, "needed")
    F.define("integer", "n", 3, "bounded", lower_bound=0, upper_bound=9)
    tf.flags.mark_flag_as_required("name", F)
    with pytest.raises(tf.flags.IllegalFlagValueError, match="Flag --name must have a value other than None"):
        F(["prog"])
    F(["prog", "--name=x", "--n=9"])
    with pytest.raises(tf.flags.IllegalFlagValueError, match="between 0 and 9"):
        F(["prog", "--name=x", "--n=10"])
    with pytest.raises(AttributeError, match="nme"):
        tf.flags.mark_flag_as_required("nme", F)


def test_definitions_are_checked(F):
    tf.flags.DEFINE_integer("n", 1, "first", 0, 9, F)
    with pytest.raises(tf.flags.DuplicateFlagError, match="'n' is defined twice"):
        tf.flags.DEFINE_float("n", 1.0, "second", flag_values=F)
    for kind, default in (("integer", "x"), ("integer", 1.5), ("string", 3), ("boolean", "maybe")):
        with pytest.raises(tf.flags.IllegalFlagValueError):
            F.define(kind, f"bad_{kind}", default, "")
    F.define("string", flag_name="old", default_value="v", docstring="TF1's first names of the arguments")
    F(["prog"])
    assert F.old == "v" and F["old"].help.startswith("TF1")


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


MORE_KINDS = [  # (kind, arguments after the name, command line, value)
    ("multi_float", [[1.0], ""], ["--f=2", "--f=.5"], [2.0, 0.5]), ("multi_float", [1, ""], [], [1.0]),
    ("multi_enum", [["a"], ["a", "b"], ""], ["--f=b", "--f=a"], ["b", "a"]),
    ("enum_class", [Colour.RED, Colour, ""], ["--f=green"], Colour.GREEN), ("enum_class", ["RED", Colour, ""], [], Colour.RED),
    ("multi_enum_class", [None, Colour, ""], ["--f=RED", "--f=GREEN"], [Colour.RED, Colour.GREEN]),
    ("spaceseplist", ["a b", ""], ["--f=c  d e"], ["c", "d", "e"]), ("spaceseplist", [None, "", True], ["--f=a,b c"], ["a", "b", "c"]),
    ("multi_string", ["x", ""], [], ["x"]), ("bool", [None, ""], [], None), ("list", [["a"], ""], [], ["a"]),
    ("string", [None, ""], ["-f", "-v"], "-v"), ("integer", [3, "", 0, 5], ["--f=5"], 5)]


@pytest.mark.parametrize("kind, args, line, value", MORE_KINDS, ids=[f"{i}-{k[0]}" for i, k in enumerate(MORE_KINDS)])
def test_more_kinds_of_flags(F, kind, args, line, value):
    F.define(kind, "f", *args)
    F(["prog", *line])
    assert F.f == value
    again = tf.flags.FlagValues()
    text = F.flags_into_string()  # what is written is read back
    getattr(tf.flags, f"DEFINE_{kind}")("f", None, *args[1:], flag_values=again) if len(args) < 4 else None
    if len(args) < 4:
        again(["prog", *text.splitlines()])
        assert again.f == value


def test_kinds_are_checked(F):
    for kind, args, words in (("enum_class", ["BLUE", Colour, ""], "RED|GREEN"), ("multi_enum", [["c"], ["a", "b"], ""], "a|b"),
                              ("multi_float", ["x", ""], "could not convert")):
        with pytest.raises(tf.flags.IllegalFlagValueError, match=re.escape(words)):
            F.define(kind, "f", *args)
    with pytest.raises(TypeError, match="not a subclass of Enum"):
        F.define("enum_class", "f", None, int, "")
    F.define("multi_integer", "m", None, "", 0, 5)
    with pytest.raises(tf.flags.IllegalFlagValueError, match="between 0 and 5"):
        F(["prog", "--m=1", "--m=6"])


def test_aliases_short_names_and_defaults(F):
    F.define("integer", "steps", 3, "", short_name="s")
    tf.flags.DEFINE_alias("n", "steps", F)
    F(["prog", "-s", "5"])
    assert (F.n, F.steps, F["n"].name, "n" in F) == (5, 5, "steps", True)
    F(["prog", "--n=6"])
    F.n = 7
    assert F.steps == 7 and F.get_flag_value("steps", 1) == 7 and F.get_flag_value("nothing", 1) == 1
    F.set_default("steps", 9)
    assert F.steps == 7  # assigned
    F.unparse_flags()
    F.mark_as_parsed()
    assert F.steps == 9 and F.flag_values_dict() == {"steps": 9}
    for bad, error in ((lambda: F.set_default("stepz", 1), AttributeError), (lambda: F.set_default("steps", "x"),
                                                                             tf.flags.IllegalFlagValueError),
                       (lambda: tf.flags.DEFINE_alias("m", "stepz", F), tf.flags.UnrecognizedFlagError),
                       (lambda: tf.flags.DEFINE_alias("steps", "steps", F), tf.flags.DuplicateFlagError)):
        with pytest.raises(error):
            bad()


def test_validators(F):
    F.define("integer", "a", None, "")
    F.define("integer", "b", 1, "")
    F.define("bool", "x", False, "")
    F.define("bool", "y", False, "")

    @tf.flags.validator("b", "must be odd", flag_values=F)
    def _odd(value):
        return value is None or value % 2

    @tf.flags.multi_flags_validator(["a", "b"], flag_values=F)
    def _ordered(values):
        if values["a"] is not None and values["a"] < values["b"]:
            raise tf.flags.ValidationError("a is below b")
        return True

    tf.flags.mark_bool_flags_as_mutual_exclusive(["x", "y"], flag_values=F)
    F(["prog", "--a=3", "--b=3", "--x"])
    for line, words in ((["--b=2"], "flag --b=2: must be odd"), (["--a=0"], "flag --a=0: flag --b=1: a is below b"),
                        (["--x", "--y"], "At most one of (x, y) must be True")):
        with pytest.raises(tf.flags.IllegalFlagValueError, match=re.escape(words)):
            F(["prog", *line])
    F(["prog"])
    with pytest.raises(tf.flags.IllegalFlagValueError, match="must be odd"):
        F.b = 4
    F.b = 1
    with pytest.raises(tf.flags.ValidationError, match="not Boolean"):
        tf.flags.mark_bool_flags_as_mutual_exclusive(["a"], flag_values=F)
    tf.flags.mark_flags_as_mutual_exclusive(["a", "b"], required=True, flag_values=F)
    F(["prog"])  # b has its default
    with pytest.raises(tf.flags.IllegalFlagValueError, match="Exactly one of"):
        F(["prog", "--a=3"])


def test_flag_files(F, tmp_path):
    defined(F)
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("--rate=2\n")
    outer.write_text(f"# a comment\n\n--steps=4\n  --notrain\n// another\n--flagfile={inner}\n")
    assert F(["prog", f"--flagfile={outer}", "x", "--layers=a"]) == ["prog", "x"]
    assert (F.steps, F.train, F.rate, F.layers) == (4, False, 2.0, ["a"])
    assert F.read_flags_from_files(["--flagfile", str(inner), "--", "--flagfile=y"]) == ["--rate=2", "--", "--flagfile=y"]
    saved = tmp_path / "saved"
    F.append_flags_into_file(saved)
    other = tf.flags.FlagValues()
    other.__dict__["define"] = lambda kind, *args, **kw: getattr(tf.flags, f"DEFINE_{kind}")(*args, flag_values=other, **kw)
    defined(other)(["prog", f"--flagfile={saved}"])
    assert other.flag_values_dict() == F.flag_values_dict()
    outer.write_text(f"--flagfile={outer}")
    with pytest.raises(tf.flags.Error, match="contain itself"):
        F(["prog", f"--flagfile={outer}"])
    with pytest.raises(tf.flags.CantOpenFlagFileError, match="nowhere"):
        F(["prog", "--flagfile=nowhere"])


def test_undefined_flags_that_are_allowed(F):
    defined(F)
    assert F(["prog", "--undefok=other,more", "--other=1", "--nomore", "--steps=2", "x"]) == ["prog", "x"] and F.steps == 2
    with pytest.raises(tf.flags.UnrecognizedFlagError, match="'third'"):
        F(["prog", "--undefok=other", "--third"])


def test_sets_of_flags(F):
    defined(F)
    other = tf.flags.FlagValues()
    other.append_flag_values(F)
    assert sorted(other) == sorted(F)
    other.remove_flag_values(["steps"])
    assert "steps" not in other and "steps" in F
    assert F.find_module_defining_flag("steps") == __file__ and F.find_module_defining_flag("stepz", 1) == 1
    assert [f.name for f in F.get_key_flags_for_module(sys.modules[__name__])] == list(F) and list(F.flags_by_module_dict()) == [__file__]
    tf.flags.declare_key_flag("rate", other)
    tf.flags.adopt_module_key_flags(sys.modules[__name__], other)
    assert {f.name for f in other.get_key_flags_for_module(__file__)} == set(other)
    assert "--rate: how fast\n    (default: 0.5)\n    (a number)" in F.get_help() and "--[no]train: whether" in F.module_help(__file__)
    with pytest.raises(tf.flags.UnrecognizedFlagError):
        tf.flags.declare_key_flag("stepz", other)
    with pytest.raises(tf.flags.Error, match="Expected a module"):
        tf.flags.adopt_module_key_flags("text", other)


PROGRAM = """
import sys
import graphflow as tf
tf.app.flags.DEFINE_integer("n", 3, "a number")
FLAGS = tf.app.flags.FLAGS
def main(argv):
    print(FLAGS.n, argv[1:])
    return 4
if sys.argv[-1] == "read":
    print(FLAGS.n)
else:
    tf.app.run()
"""


@pytest.mark.parametrize("args, code, out, err", [
    (["--n=5", "x", "--unknown"], 4, "5 ['x', '--unknown']\n", ""), (["--n=x"], 1, "", "FATAL Flags parsing error: flag --n=x"),
    (["--help"], 1, "--n: a number", ""), (["--n=6", "read"], 0, "6\n", ""), (["--m=6", "read"], 1, "", "Unknown command line flag 'm'")])
def test_programs(tmp_path, args, code, out, err):
    (tmp_path / "program.py").write_text(PROGRAM)
    found = subprocess.run([sys.executable, tmp_path / "program.py", *args], capture_output=True, text=True, env=ENVIRONMENT)
    assert found.returncode == code, found.stderr
    assert out in found.stdout and err in found.stderr


# ---------------------------------------------------------------- logging


@pytest.fixture
def verbosity():
    before = tf.logging.get_verbosity()
    yield
    tf.logging.set_verbosity(before)


def test_logging_levels_and_format(verbosity):
    logger, seen = logging.getLogger("tensorflow"), []

    class Keep(logging.Handler):
        def emit(self, record):
            seen.append((record.levelno, record.getMessage(), record.filename))

    keep = Keep()
    logger.addHandler(keep)
    try:
        tf.logging.set_verbosity(tf.logging.WARN)
        tf.logging.info("hidden")
        tf.logging.warn("seen %d", 1)
        tf.logging.set_verbosity(tf.logging.DEBUG)
        tf.logging.debug("d")
        tf.logging.fatal("f")
        tf.logging.log(tf.logging.ERROR, "e %s", "x")
        for i in range(5):
            tf.logging.log_every_n(tf.logging.INFO, "every %d", 2, i)
            tf.logging.log_first_n(tf.logging.INFO, "first %d", 1, i)
    finally:
        logger.removeHandler(keep)
    assert [s[:2] for s in seen] == [(30, "seen 1"), (10, "d"), (50, "f"), (40, "e x"), (20, "every 0"),
                                      (20, "first 0"), (20, "every 2"), (20, "every 4")]
    assert {s[2] for s in seen} == {"test_platform.py"}
    assert tf.logging.get_verbosity() == 10


def test_logging_writes_lines_of_tf1():
    code = ("import graphflow as tf; tf.logging.info('no'); tf.logging.warn('w %d', 1); tf.logging.set_verbosity(tf.logging.INFO); "
            "tf.logging.info('i'); tf.logging.debug('no'); tf.logging.set_verbosity(tf.logging.FATAL); tf.logging.error('no')")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert (found.stdout, found.stderr) == ("", "WARNING:tensorflow:w 1\nINFO:tensorflow:i\n")


def test_logging_in_an_interactive_session():
    code = "import graphflow as tf\ntf.logging.info('hello')\n"
    found = subprocess.run([sys.executable, "-i", "-c", code], input="", capture_output=True, text=True, env=ENVIRONMENT)
    assert found.stdout == "INFO:tensorflow:hello\n"


# ---------------------------------------------------------------- files


def test_files(tmp_path):
    path = str(tmp_path / "a.txt")
    with tf.gfile.Open(path, "w") as f:
        f.write("one\ntwo\n")
        f.write("thr\u00e9e")
    with tf.gfile.GFile(path) as f:
        assert f.readline() == "one\n" and f.read(2) == "tw" and f.readlines() == ["o\n", "thr\u00e9e"]
        f.seek(4)
        assert f.tell() == 4 and f.read() == "two\nthr\u00e9e" and f.size() == 14
        f.seek(0)
        assert list(f) == ["one\n", "two\n", "thr\u00e9e"]
    with tf.gfile.FastGFile(path, "a") as f:
        f.write("!")
    with tf.gfile.FastGFile(path, "rb") as f:
        assert f.read() == "one\ntwo\nthr\u00e9e!".encode()
    assert tf.gfile.Stat(path).length == 15


def test_folders(tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "a" / "b")
    tf.gfile.MakeDirs(b)
    tf.gfile.MakeDirs(b)
    for name in ("x.txt", "y.txt", "z.bin"):
        tf.gfile.Open(f"{b}/{name}", "w").close()
    assert tf.gfile.Exists(f"{b}/x.txt") and tf.gfile.IsDirectory(b) and not tf.gfile.IsDirectory(f"{b}/x.txt")
    assert sorted(tf.gfile.ListDirectory(b)) == ["x.txt", "y.txt", "z.bin"]
    assert tf.gfile.Glob(f"{b}/*.txt") == [f"{b}/x.txt", f"{b}/y.txt"]
    assert list(tf.gfile.Walk(a)) == [(a, ["b"], []), (b, [], ["x.txt", "y.txt", "z.bin"])]
    tf.gfile.Rename(f"{b}/x.txt", f"{b}/w.txt")
    tf.gfile.Copy(f"{b}/w.txt", f"{b}/y.txt", overwrite=True)
    tf.gfile.Remove(f"{b}/z.bin")
    assert sorted(tf.gfile.ListDirectory(b)) == ["w.txt", "y.txt"]
    tf.gfile.DeleteRecursively(a)
    assert not tf.gfile.Exists(a)


def test_file_errors(tmp_path):
    there, missing = str(tmp_path / "there"), str(tmp_path / "missing")
    tf.gfile.Open(there, "w").close()
    for attempt in (lambda: tf.gfile.Open(missing).read(), lambda: tf.gfile.Remove(missing), lambda: tf.gfile.ListDirectory(missing),
                    lambda: tf.gfile.DeleteRecursively(missing), lambda: tf.gfile.Stat(missing), lambda: tf.gfile.Copy(missing,
                                                                                                                       missing + "2")):
        with pytest.raises(tf.errors.NotFoundError, match="missing"):
            attempt()
    for attempt in (lambda: tf.gfile.Copy(there, there), lambda: tf.gfile.Rename(there, there), lambda: tf.gfile.MkDir(str(tmp_path))):
        with pytest.raises(tf.errors.AlreadyExistsError):
            attempt()
    for attempt in (lambda: tf.gfile.MakeDirs(there), lambda: tf.gfile.Remove(str(tmp_path))):
        with pytest.raises(tf.errors.FailedPreconditionError):
            attempt()
    with pytest.raises(tf.errors.PermissionDeniedError, match="for reading"):
        tf.gfile.Open(there, "w").read()
    with pytest.raises(tf.errors.PermissionDeniedError, match="for writing"):
        tf.gfile.Open(there).write("x")
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.gfile.Open(there, "q")
    with pytest.raises(tf.errors.UnimplementedError, match="gs"):
        tf.gfile.Exists("gs://bucket")


def test_files_in_more_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tf.gfile.GFile("b", "wb") as f:
        f.write("text")
        f.write(b" bytes")
    with tf.gfile.GFile("file://" + str(tmp_path / "b"), "r") as f:
        f.seek(-5, 2)
        assert f.read() == "bytes" and f.seekable() and f.name.endswith("/b") and f.mode == "r"
        f.seek(1)
        f.seek(1, 1)
        assert f.read(2) == "xt" and f.tell() == 4
        for seek, error in ((lambda: f.seek(-1), tf.errors.InvalidArgumentError), (lambda: f.seek(1, 5), tf.errors.InvalidArgumentError),
                            (lambda: f.seek(), TypeError)):
            with pytest.raises(error):
                seek()
    with tf.gfile.GFile(tmp_path / "b", "r+") as f:
        assert f.read(4) == "text"
    with pytest.raises(TypeError, match="binary or unicode"):
        tf.gfile.GFile("b", "w").write(3)
    assert tf.gfile.Glob("*") == ["./b"] and tf.gfile.Glob("b") == ["b"]
    assert tf.gfile.Glob(["n*", str(tmp_path / "?")]) == [str(tmp_path / "b")]
    tf.gfile.DeleteRecursively("b")
    assert not tf.gfile.Exists("b")


def test_io_gfile(tmp_path):
    g, a = tf.io.gfile, str(tmp_path / "a")
    g.makedirs(f"{a}/b")
    g.mkdir(f"{a}/c")
    with g.GFile(f"{a}/x", "w") as f:
        f.write("12")
    g.copy(f"{a}/x", f"{a}/b/y")
    g.rename(f"{a}/x", f"{a}/z")
    assert g.exists(f"{a}/z") and not g.exists(f"{a}/x") and g.isdir(f"{a}/c") and sorted(g.listdir(a)) == ["b", "c", "z"]
    assert g.stat(f"{a}/z").length == 2 and not g.stat(f"{a}/z").is_directory and g.glob(f"{a}/*/y") == [f"{a}/b/y"]
    expected = [(a, ["b", "c"], ["z"]), (f"{a}/b", [], ["y"]), (f"{a}/c", [], [])]
    assert list(g.walk(a)) == expected and list(g.walk(a, topdown=False)) == expected[1:] + expected[:1]
    seen = []
    assert list(g.walk(f"{a}/none", onerror=seen.append)) == [] and len(seen) == 1
    for attempt in (lambda: g.copy(f"{a}/z", f"{a}/b/y"), lambda: g.rename(f"{a}/z", f"{a}/b/y"), lambda: g.mkdir(f"{a}/c")):
        with pytest.raises(tf.errors.AlreadyExistsError):
            attempt()
    g.copy(f"{a}/z", f"{a}/b/y", overwrite=True)
    g.remove(f"{a}/z")
    g.rmtree(a)
    for attempt in (lambda: g.remove(a), lambda: g.rmtree(a), lambda: g.listdir(a), lambda: g.stat(a), lambda: g.copy(a, a + "2")):
        with pytest.raises(tf.errors.NotFoundError):
            attempt()


def test_the_resource_loader():
    here = os.path.dirname(os.path.abspath(__file__))
    assert tf.resource_loader.get_data_files_path() == here and tf.resource_loader.get_path_to_datafile("x/y") == os.path.join(here, "x/y")
    assert tf.resource_loader.load_resource("version.py").startswith(b'"""') and tf.resource_loader.readahead_file_path("p") == "p"
    assert os.path.isdir(tf.resource_loader.get_root_dir_with_all_resources())
    with pytest.raises(OSError):
        tf.resource_loader.load_resource("nothing")


# ---------------------------------------------------------------- test cases


def outcome(body):
    """The failures of a test method, run as unittest does."""
    case = type("Case", (tf.test.TestCase,), {"test_it": body})("test_it")
    result = unittest.TestResult()
    case.run(result)
    return [text.splitlines()[-1] for _, text in result.failures + result.errors]


def test_a_test_case_with_sessions():
    def body(self):
        with self.test_session() as sess:
            v = tf.Variable(2.0)
            sess.run(v.initializer)
            self.assertAllEqual(v.eval(), 2.0)
        with self.cached_session():
            self.assertEqual((v + 1).eval(), 3.0)
        self.assertAllClose(self.evaluate([v, v * 2]), [2.0, 4.0])
        self.assertShapeEqual(np.zeros((2, 3)), tf.zeros([2, 3]))
        with self.session(graph=tf.Graph()) as other:
            self.assertEqual(other.run(tf.constant(1)), 1)
        with self.test_session(), self.assertRaisesOpError("must feed"):
            tf.placeholder(tf.float32, []).eval()
    assert outcome(body) == []


@pytest.mark.parametrize("body", [
    lambda self: self.assertAllEqual([1, 2], [1, 3]), lambda self: self.assertAllEqual(
        [1], [[1]]), lambda self: self.assertAllClose(1.0, 1.1),
    lambda self: self.assertAllClose({"a": 1.0}, {"a": 2.0}), lambda self: self.assertAllClose([[1.0], [2.0, 3.0]], [[1.0], [2.0, 4.0]]),
    lambda self: self.assertShapeEqual(np.zeros(3), tf.zeros([2])), lambda self: self.assertNear(1, 2, 0.5),
    lambda self: self.assertAllInRange([1, 5], 1, 4), lambda self: self.assertAllInSet(
        [1, 5], [1, 4]), lambda self: self.assertNotAllEqual([1], [1]),
    lambda self: self.assertNotAllClose([1.0], [1.0]), lambda self: self.assertAllEqual(self.evaluate(tf.constant([1])), [2]),
    lambda self: self.assertRaisesOpError("x").__enter__() or self.fail("no error")])
def test_comparisons_that_fail(body):
    assert len(outcome(body)) == 1


def test_comparisons_that_hold():
    def body(self):
        self.assertAllEqual([np.nan, 1], [np.nan, 1])
        self.assertAllClose({"a": [1.0], "b": (2.0, 3.0)}, {"a": np.array([1.0]), "b": (2.0, 3.0)})
        self.assertAllClose(np.float16([1]), [1.0005])
        self.assertAllCloseAccordingToType(np.float16([1]), np.float16([1.001]))
        self.assertNotAllClose([1.0], [1.1])
        self.assertAllInRange(tf.constant([1, 4]), 1, 4)
        self.assertArrayNear([1, 2], [1.1, 2.1], 0.2)
        self.assertStartsWith(self.get_temp_dir(), tf.test.get_temp_dir())
    assert outcome(body) == []


def test_more_comparisons():
    holds = [
        lambda t: t.assertItemsEqual([1, 2, 2], [2, 1, 2]), lambda t: t.assertSameElements([1, 1, 2], [2, 1]),
        lambda t: t.assertSameElements([[1], [1]], [[1]]),
        lambda t: t.assertContainsSubset([1], [1, 2]), lambda t: t.assertNoCommonElements([1], [2]), lambda t: t.assertLen("ab", 2),
        lambda t: t.assertEmpty([]), lambda t: t.assertNotEmpty([0]), lambda t: t.assertBetween(2, 1, 3),
        lambda t: t.assertEndsWith("abc", "bc"), lambda t: t.assertDictAlmostEqual({"a": 1.0}, {"a": 1.0 + 1e-9}),
        lambda t: t.assertSequenceAlmostEqual([1.0], [1.1], delta=0.2),
        lambda t: t.assertRaisesWithLiteralMatch(ValueError, "a.c", raising, "a.c")]
    fails = [
        lambda t: t.assertItemsEqual([1, 2], [2, 1, 2]), lambda t: t.assertSameElements([1], [2, 1]),
        lambda t: t.assertSameElements([[1]], [[2]]),
        lambda t: t.assertContainsSubset([3], [1, 2]), lambda t: t.assertNoCommonElements([1], [1]), lambda t: t.assertLen("ab", 3),
        lambda t: t.assertEmpty([1]), lambda t: t.assertNotEmpty([]), lambda t: t.assertBetween(4, 1, 3),
        lambda t: t.assertEndsWith("abc", "b"), lambda t: t.assertDictAlmostEqual({"a": 1.0}, {"a": 1.1}),
        lambda t: t.assertSequenceAlmostEqual([1.0], [1.1]),
        lambda t: t.assertRaisesWithLiteralMatch(ValueError, "a.c", raising, "abc")]
    assert [len(outcome(f)) for f in holds] == [0] * len(holds) and [len(outcome(f)) for f in fails] == [1] * len(fails)


def raising(message):
    raise ValueError(message)


def test_seeds_of_a_test_case_are_those_of_tf1():
    def body(self):
        self.assertEqual(tf.get_default_graph().seed, 87654321)
        self.assertEqual(np.random.rand(), np.random.RandomState(87654321).rand())
    assert outcome(body) == []


def test_threads_and_streams_of_a_test_case(capfd):
    def body(self):
        with self.captureWritesToStream(sys.stderr) as printed, self.cached_session():
            tf.print("seen", tf.constant(3)).run()
            sys.stderr.flush()
            self.assertEqual(printed.contents(), "seen 3\n")
        self.assertIn("seen", printed.contents())
        seen = []
        thread = self.checkedThread(lambda x, y=0: seen.append(x + y), args=(1,), kwargs={"y": 2})
        thread.start()
        thread.join()
        self.assertEqual(seen, [3])
    sys.stderr.flush()
    assert outcome(body) == []
    failed = outcome(lambda self: self.checkedThread(raising, ["bad"]).start())
    assert failed == ["AssertionError: Error in checkedThread: ValueError('bad')"]


def test_test_session_is_no_test():
    class Case(tf.test.TestCase):
        def test_it(self):
            pass

    found = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(found)
    assert found.testsRun == 2 and [reason for _, reason in found.skipped] == ["Not a test."] and found.wasSuccessful()


def test_stubs():
    class Thing:
        value = 1

        @staticmethod
        def call():
            return "old"

    stubs = tf.test.StubOutForTesting()
    stubs.Set(Thing, "value", 2)
    stubs.SmartSet(Thing, "value", 3)
    stubs.Set(Thing, "call", staticmethod(lambda: "new"))
    assert (Thing.value, Thing().call()) == (3, "new")
    stubs.UnsetAll()
    assert (Thing.value, Thing().call()) == (1, "old")
    with pytest.raises(AttributeError):
        stubs.Set(Thing, "missing", 1)


def test_benchmarks(capsys):
    found = {}

    class Sum(tf.test.Benchmark):
        def benchmarkSum(self):
            with tf.Session() as sess:
                found.update(self.run_op_benchmark(sess, tf.reduce_sum(tf.ones([10])), min_iters=3, store_trace=True, mbs=1))

        def benchmarkOther(self):
            self.report_benchmark(iters=1, extras={"x": 2})

    tf.test.main(["program", "--benchmarks=test_platform.Sum.bench"])
    written = capsys.readouterr().out
    assert "Sum.benchmarkOther iters: 1 x: 2\n" in written and "Sum.benchmarkSum iters: 3 wall_time: " in written
    assert found["iters"] == 3 and found["wall_time"] > 0 and found["throughput"] == 1 / found["wall_time"]
    assert "traceEvents" in found["extras"]["full_trace_chrome_format"] and found["extras"]["wall_time_mean"] > 0
    with pytest.raises(ValueError, match="No benchmarks matched"):
        tf.test.main(["program", "--benchmarks=none"])


def test_compute_gradient():
    with tf.Session():
        x = tf.constant([[1.0, 2.0], [3.0, 4.0]], tf.float64)
        y = tf.reduce_sum(x * x, 1)
        exact, near = tf.test.compute_gradient(x, [2, 2], y, [2], x_init_value=np.array([[1.0, 2.0], [3.0, 4.0]]))
        np.testing.assert_allclose(exact, [[2, 0], [4, 0], [0, 6], [0, 8]])
        np.testing.assert_allclose(near, exact, atol=1e-8)
        assert tf.test.compute_gradient_error(x, [2, 2], y, [2]) < 1e-8
        wrong = tf.stop_gradient(x) * x
        assert tf.test.compute_gradient_error(x, [2, 2], wrong, [2, 2], x_init_value=np.ones((2, 2))) == pytest.approx(1, abs=1e-6)


# ---------------------------------------------------------------- names


def test_unknown_names_say_what_is_near_or_comes_later():
    with pytest.raises(AttributeError, match="Did you mean 'reduce_mean'"):
        tf.reduce_meen
    with pytest.raises(AttributeError, match="tf.keras is not in this release"):
        tf.keras
