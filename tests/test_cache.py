"""The object cache meets every fault of a disk, and the kernel store never compiles what it has."""

import os
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from graphflow.codegen import cache as cache_module
from graphflow.codegen import helpers
from graphflow.codegen.cache import ObjectCache, default_directory, pack, unpack
from graphflow.codegen.compile import KernelStore, no_recompile, object_key
from graphflow.codegen.target import ABI, symbol

ROOT = Path(__file__).parents[1]
KEY, IMAGE, TEXT = "k" * 64, bytes(range(256)) * 40, "# text\n"


def constant(value: int) -> str:
    return f"# constant {value}\ndef kernel(B, S, lo, hi):\n    return {value}\n"


@pytest.fixture
def disk(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield ObjectCache(tmp_path / "cache", abi=ABI)


# ---- the files --------------------------------------------------------------------------------------

def test_an_object_comes_back_and_its_text_lies_beside_it(disk):
    disk.store(KEY, IMAGE, TEXT)
    assert disk.load(KEY) == IMAGE
    assert (disk.directory / f"{KEY}.py").read_text() == TEXT
    assert stat.S_IMODE(disk.directory.stat().st_mode) == 0o700
    assert not list(disk.directory.glob("*.tmp"))


def test_absent_is_none(disk):
    assert disk.load(KEY) is None


@pytest.mark.parametrize("damage", [
    lambda c: b"", lambda c: c[:10], lambda c: c[:-1], lambda c: c + b"x", lambda c: b"X" + c[1:],
    lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: c[:20] + b"\0" + c[21:], lambda c: b"\x7fELF" + bytes(200),
    lambda c: pack(IMAGE, ABI + 1)])
def test_a_damaged_entry_is_removed(disk, damage):
    disk.store(KEY, IMAGE, TEXT)
    content = disk.path(KEY).read_bytes()
    assert damage(content) != content
    disk.path(KEY).write_bytes(damage(content))
    disk.path(KEY).chmod(0o600)
    assert disk.load(KEY) is None
    assert not disk.path(KEY).exists()


def test_unpack_inverts_pack():
    assert unpack(pack(IMAGE, 3), 3) == IMAGE and unpack(pack(b"", 3), 3) == b""


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_entries_others_could_have_written_are_ignored(disk, monkeypatch):
    disk.store(KEY, IMAGE, TEXT)
    disk.path(KEY).chmod(0o622)
    assert disk.load(KEY) is None
    disk.path(KEY).chmod(0o600)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert disk.load(KEY) is None


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no O_NOFOLLOW")
def test_a_link_is_not_followed(disk, tmp_path):
    (tmp_path / "elsewhere").write_bytes(pack(IMAGE, ABI))
    disk.store("other", IMAGE, TEXT)
    disk.path(KEY).symlink_to(tmp_path / "elsewhere")
    assert disk.load(KEY) is None


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_directory_open_to_others_is_not_trusted(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    disk = ObjectCache(tmp_path / "open")
    with pytest.warns(RuntimeWarning, match="could not trust"):
        disk.store(KEY, IMAGE, TEXT)
    assert disk.load(KEY) is None and not list(disk.directory.iterdir())


def test_a_directory_that_cannot_be_made_warns_once(tmp_path):
    (tmp_path / "file").write_text("")
    disk = ObjectCache(tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="could not create") as caught:
        disk.store(KEY, IMAGE, TEXT)
        disk.store(KEY, IMAGE, TEXT)
        assert disk.load(KEY) is None
    assert len(caught) == 1


def test_a_full_disk_warns_once_and_leaves_nothing_half_written(disk, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(cache_module.os, "replace", full)
    with pytest.warns(RuntimeWarning, match="No space left") as caught:
        disk.store(KEY, IMAGE, TEXT)
        disk.store("b", IMAGE, TEXT)
    assert len(caught) == 1 and not list(disk.directory.iterdir())


def test_a_read_only_disk_still_serves(disk, monkeypatch):
    disk.store(KEY, IMAGE, TEXT)

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")
    monkeypatch.setattr(cache_module.os, "utime", refuse)
    assert disk.load(KEY) == IMAGE


def test_the_least_recently_used_go_first(tmp_path):
    disk = ObjectCache(tmp_path / "c", limit=60_000)
    for k in range(5):
        disk.store(str(k), IMAGE, TEXT)
        os.utime(disk.path(str(k)), (k, k))
        os.utime(disk.path(str(k)).with_suffix('.py'), (k, k))
    assert disk.load("0") == IMAGE                              # now the youngest
    disk.store("5", IMAGE, TEXT)
    left = {f.stem for f in disk.directory.glob("*.o")}
    assert left == {"0", "5", "3", "4"} and left == {f.stem for f in disk.directory.glob("*.py")}


def test_clear_removes_entries_only(disk):
    disk.store(KEY, IMAGE, TEXT)
    (disk.directory / "mine.txt").write_text("")
    disk.clear()
    assert [f.name for f in disk.directory.iterdir()] == ["mine.txt"]


def test_the_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.delenv("GRAPHFLOW_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    if sys.platform == "linux":
        assert default_directory() == tmp_path / "x" / "graphflow"


# ---- the store --------------------------------------------------------------------------------------

def run(address: int) -> int:
    import ctypes
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(address)(None, None, 0, 0)


def test_memory_then_disk_then_compiler(disk):
    store = KernelStore(disk)
    a, b, again = store.compile([constant(1), constant(2), constant(1)])
    assert (run(a), run(b), again) == (1, 2, a)
    assert store.compile([constant(2)]) == [b]
    assert (store.stats["compiled"], store.stats["disk_hits"], store.stats["memory_hits"]) == (2, 0, 2)
    fresh = KernelStore(disk)
    assert [run(k) for k in fresh.compile([constant(2), constant(1)])] == [2, 1]
    assert (fresh.stats["compiled"], fresh.stats["disk_hits"]) == (0, 2)


def test_a_corrupt_entry_is_compiled_again(disk):
    KernelStore(disk).compile([constant(3)])
    file = disk.path(object_key(constant(3)))
    file.write_bytes(file.read_bytes()[:-7])
    store = KernelStore(disk)
    assert run(store.compile([constant(3)])[0]) == 3
    assert store.stats["compiled"] == 1 and disk.load(object_key(constant(3)))


def test_no_recompile_names_the_kernel_and_allows_the_known(disk):
    store = KernelStore(disk)
    known = store.compile([constant(4)])
    with no_recompile():
        assert store.compile([constant(4)]) == known
        assert run(KernelStore(disk).compile([constant(4)])[0]) == 4
        with pytest.raises(RuntimeError, match="constant 5"):
            store.compile([constant(5)])
    assert run(store.compile([constant(5)])[0]) == 5


def test_an_unknown_symbol_is_an_error_not_a_crash(disk):
    from graphflow.codegen.target import linker, llvm
    machine = llvm().Target.from_default_triple().create_target_machine()
    text = "declare i64 @no_such_thing()\ndefine i64 @kernel() {\n %r = call i64 @no_such_thing()\n ret i64 %r\n}"
    with pytest.raises(RuntimeError, match="kernel mine does not link"):
        linker().link(machine.emit_object(llvm().parse_assembly(text)), "mine")
    with pytest.raises(RuntimeError, match="does not link"):
        linker().link(b"not an object", "mine")


def test_unknown_words_and_bad_texts_say_so(disk):
    with pytest.raises(NameError, match="nonsense_f32"):
        KernelStore(disk).compile(["def kernel(B, S, lo, hi):\n    return nonsense_f32(lo)\n"])


def test_a_text_that_raises_is_refused(disk):
    text = "def kernel(B, S, lo, hi):\n    if lo == 0:\n        raise ValueError('x')\n    return 0\n"
    with pytest.raises(Exception, match="NRT"):
        KernelStore(disk).compile([text])


def test_threads_share_one_store(disk):
    store, found = KernelStore(disk), []
    texts = [constant(k) for k in range(10, 14)]
    threads = [threading.Thread(target=lambda: found.append(store.compile(texts))) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all(f == found[0] for f in found) and store.stats["compiled"] == 4


def test_helper_processes_compile_the_same():
    texts = [constant(k) for k in range(20, 24)]
    images = helpers.compile_many(texts, workers=1)
    assert len(images) == 4 and all(images)


def test_a_helper_that_cannot_start_costs_nothing(monkeypatch):
    monkeypatch.setattr(helpers.sys, "executable", "/no/such/python")
    assert all(helpers.compile_many([constant(1)], workers=1))


def in_child(code: str, directory) -> str:
    environment = {**os.environ, "GRAPHFLOW_CACHE_DIR": str(directory), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COMPILE = """
import sys
from graphflow.codegen.compile import compile_kernels, stats, object_key
compile_kernels(["# c\\ndef kernel(B, S, lo, hi):\\n    return 7\\n"])
print(stats()["compiled"], stats()["disk_hits"], "numba" in sys.modules, object_key("x"))
"""


def test_a_warm_process_never_imports_numba(tmp_path):
    cold = in_child(COMPILE, tmp_path / "c").split()
    warm = in_child(COMPILE, tmp_path / "c").split()
    assert cold[:3] == ["1", "0", "True"] and warm[:3] == ["0", "1", "False"] and cold[3] == warm[3]


def test_processes_that_write_at_once_do_no_harm(tmp_path):
    environment = {**os.environ, "GRAPHFLOW_CACHE_DIR": str(tmp_path / "c"), "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", COMPILE], env=environment, stdout=subprocess.DEVNULL)
            for _ in range(2)]
    assert [p.wait(120) for p in both] == [0, 0]
    assert in_child(COMPILE, tmp_path / "c").split()[:2] == ["0", "1"]


def test_importing_is_light(tmp_path):
    code = ("import sys\nfrom graphflow.codegen import compile\nfrom graphflow.runtime import runner\n"
            "print(any(m in sys.modules for m in ('numba', 'llvmlite')))")
    assert in_child(code, tmp_path) == "False"


def test_a_key_depends_on_the_text():
    assert object_key("a") != object_key("b") and len(object_key("a")) == 64


def test_llvm_text_is_compiled_in_a_fresh_process():
    """A helper may be given it first: nothing has made LLVM ready there yet."""
    text = "; plain\ndefine i64 @%s(ptr %%b, ptr %%s, i64 %%lo, i64 %%hi) {\n  ret i64 0\n}\n" % symbol()
    code = f"from graphflow.codegen.backend import compile_object; print(len(compile_object({text!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and int(done.stdout) > 100, done.stderr
