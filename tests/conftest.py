"""What every test runs in: an object cache of its own, an empty default graph, and a limit on its time."""
from __future__ import annotations

import faulthandler
import os
import random
import shutil
import signal
import tempfile
import threading
from typing import Any

import pytest

SECONDS = float(os.environ.get("GRAPHFLOW_TEST_SECONDS", "300"))  # of one test, before its stacks are printed and the run ends
EMULATED_SECONDS = float(os.environ.get("GRAPHFLOW_TEST_EMULATED_SECONDS", "60"))

# Set before graphflow is imported. One folder for all tests of a run (and all workers of pytest-xdist, which inherit the
# environment), so that a kernel is compiled once.
OWN_CACHE = None
if "GRAPHFLOW_TEST_CACHE" not in os.environ:
    OWN_CACHE = os.environ["GRAPHFLOW_TEST_CACHE"] = tempfile.mkdtemp(prefix="graphflow-test-cache-")
os.environ["GRAPHFLOW_CACHE_DIR"] = os.environ["GRAPHFLOW_TEST_CACHE"]
os.environ["GRAPHFLOW_EARLY"] = "0"  # kernels are what most tests are about; test_early.py is about the runs before them
for switch in ("DEBUG", "CHECK", "DOT", "OPTIMIZE", "INTERPRET"):  # the tests set these themselves
    os.environ.pop(f"GRAPHFLOW_{switch}", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", choices=("no", "emulated", "real"), default="no",
                     help="what sessions find: no GPU, one that the PTX emulator plays, or those of this machine")
    parser.addoption("--gpu-order", help="in which warps and blocks of emulated GPUs run: forward, reverse, or a number")
    parser.addoption("--gpu-errors", type=int, help="a number that draws errors of an emulated GPU's approximate functions")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.gpu_errors is not None:
        from graphflow.testing.emulator import imprecise

        imprecise.set_seed(config.option.gpu_errors)
    if config.option.gpu_order is not None:
        from graphflow.testing.emulator import order

        given = config.option.gpu_order
        order.set_default(int(given) if given.isdigit() else given)
    config.stash[ERRORS] = os.dup(2)  # pytest captures stderr while tests run
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell, where tests of Ctrl-C would wait for ever
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["GRAPHFLOW_TEST_GPU"] = config.option.gpu  # see on_gpu.py
    if config.option.gpu != "real":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if config.option.gpu == "emulated":
        config.stash[EMULATED] = []
        _emulate(config)
    try:
        from hypothesis import settings
    except ImportError:
        return
    settings.register_profile("graphflow", deadline=None, print_blob=True)  # the first example of a test compiles
    settings.load_profile("graphflow")


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[ERRORS])
    if OWN_CACHE is not None:
        shutil.rmtree(OWN_CACHE, ignore_errors=True)


ERRORS = pytest.StashKey[int]()
EMULATED = pytest.StashKey[list[Any]]()


def _emulate(config: pytest.Config) -> None:
    """Another emulated GPU, whose work is done as late as it may be; what is left undone on that before it never happens."""
    from graphflow.runtime.cuda import device, driver
    from graphflow.testing.gpu import EmulatedDriver

    drivers = config.stash[EMULATED]
    if drivers:
        drivers[-1].abandon()
        device.forget(drivers[-1], "the test that used it was given up")
        drivers[-1].end()
    drivers.append(EmulatedDriver(deferred=True, coherent=True))
    driver.install(drivers[-1])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Under --gpu, what is about the CPU alone is skipped, with its mark's reason."""
    if config.option.gpu == "no":
        return
    for item in items:
        for mark in item.iter_markers("cpu_only"):
            item.add_marker(pytest.mark.skip(reason="of the CPU alone: " + mark.kwargs["reason"]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How much of it was really on the emulated GPU."""
    if config.option.gpu == "emulated":
        counters = [d.counters for d in config.stash[EMULATED]]
        terminalreporter.write_line(f"emulated GPU: {sum(c.launches for c in counters):,} launches, "
                                    f"{sum(c.thread_instructions for c in counters):,} thread instructions")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function):
    """The emulated GPU is a million times slower than one: a test that is not through in time is skipped, and says so."""
    if pyfuncitem.config.option.gpu != "emulated" or threading.current_thread() is not threading.main_thread():
        return (yield)
    late = False

    def give_up(*_) -> None:
        nonlocal late
        late = True
        pytest.skip(f"not through in {EMULATED_SECONDS:g} s on the emulated GPU (GRAPHFLOW_TEST_EMULATED_SECONDS)")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, EMULATED_SECONDS, 3)  # again: what is raised in a finalizer is lost
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if late:
            _emulate(pyfuncitem.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Ends the process with the stacks of all threads when a test hangs: a hung native call cannot be interrupted."""
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=item.config.stash[ERRORS])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def repeatable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """What a test draws without a seed depends on its name alone: one that passed once does not fail on the next machine."""
    import numpy as np

    from graphflow import random_ops

    stream = random.Random(request.node.nodeid)
    np.random.seed(stream.getrandbits(32))
    monkeypatch.setattr(random_ops, "entropy", stream.randbytes)


@pytest.fixture(autouse=True)
def empty_default_graph():
    """The default graph of each test is empty, and no session of another test is left open in it."""
    import graphflow as tf

    tf.reset_default_graph()
    yield
    assert tf.get_default_session() is None, "the test left a session entered"
