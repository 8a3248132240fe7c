"""`tf.test`: test cases with sessions and array comparisons, and gradients checked against differences."""
from __future__ import annotations

import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
import unittest
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence
from unittest import mock

import numpy as np

import graphflow as tf

from .. import errors, types
from ..graph import Graph, Tensor
from ..runtime.devices import Devices
from ..session import Session

__all__ = ["Benchmark", "StubOutForTesting", "TestCase", "assert_equal_graph_def", "compute_gradient", "compute_gradient_error",
           "get_temp_dir", "gpu_device_name", "is_built_with_cuda", "is_built_with_gpu_support", "is_built_with_rocm", "is_gpu_available",
           "main", "mock", "test_src_dir_path"]

SEED = 87654321  # of the default graph, of random and of numpy.random in each test

_temporary: list[str] = []


def get_temp_dir() -> str:
    """A folder for the files of this process's tests, deleted when it ends."""
    if not _temporary:
        import atexit

        _temporary.append(tempfile.mkdtemp(prefix="graphflow-test-"))
        atexit.register(shutil.rmtree, _temporary[0], ignore_errors=True)
    return _temporary[0]


def test_src_dir_path(relative_path: str) -> str:
    """`relative_path` below the folder of the running program."""
    return os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), relative_path)


test_src_dir_path.__test__ = False  # type: ignore[attr-defined]


def is_built_with_cuda() -> bool:
    """Whether this build has kernels for CUDA: it makes them, where there is a GPU (`is_gpu_available`)."""
    return True


def is_built_with_rocm() -> bool:
    """Whether this build has kernels for ROCm: no."""
    return False


def is_built_with_gpu_support() -> bool:
    """Whether this build has kernels for any GPU: those for CUDA."""
    return True


def is_gpu_available(cuda_only: bool = False, min_cuda_compute_capability: Any = None) -> bool:
    """Whether a graph can run on a GPU of the given compute capability (a pair of numbers), or a newer one."""
    least = tuple(min_cuda_compute_capability or (0, 0))
    return any(d.capability >= least for d in Devices().gpus)


def gpu_device_name() -> str:
    """`/device:GPU:0`; empty where no GPU can be used."""
    found = Devices().gpus
    return f"/device:{found[0].short}" if found else ""


def assert_equal_graph_def(actual: Any, expected: Any, checkpoint_v2: bool = False) -> None:
    """Raises AssertionError unless two GraphDefs have equal nodes, in any order."""
    a, b = ({n.name: n for n in g.node} for g in (actual, expected))
    if a.keys() != b.keys():
        raise AssertionError(f"nodes in one graph only: {sorted(a.keys() ^ b.keys())}")
    different = [name for name in a if a[name] != b[name]]
    if different:
        raise AssertionError(f"Found unexpected diff in node {different[0]!r}: {a[different[0]]!r}, expected {b[different[0]]!r}")


def main(argv: Any = None) -> None:
    """Runs the test cases of the script; flags of `tf.flags` on the command line are taken out first.

    With `--benchmarks=REGEX` (or `all`) it runs the methods `benchmark...` of the subclasses of `Benchmark` instead whose
    `module.Class.method` the expression finds.

    Raises:
        ValueError: no benchmark is of that name.
    """
    from . import flags

    rest = flags.FLAGS(list(sys.argv if argv is None else argv), known_only=True)
    wanted = next((a.partition("=")[2] for a in rest if re.match("--?benchmarks=", a)), None)
    if wanted is None:
        unittest.main(argv=rest)
    else:
        _run_benchmarks(wanted)


# ---------------------------------------------------------------- gradients


def compute_gradient(x: Any, x_shape: Any, y: Tensor, y_shape: Any, x_init_value: Any = None, delta: float = 1e-3, init_targets: Any = None,
                     extra_feed_dict: Any = None) -> Any:
    """The Jacobian of y in x by `tf.gradients` and by central differences: two arrays [size of x, size of y].

    Args:
        x: a tensor, or a list of them (then a list of pairs is returned); it is fed.
        x_shape, y_shape: shapes, a list of shapes if x is a list.
        x_init_value: where; random by default.
        delta: the step of the differences.
        init_targets: operations run first.
        extra_feed_dict: other feeds.
    """
    session = tf.get_default_session()
    if init_targets is not None:
        for op in init_targets if isinstance(init_targets, (list, tuple)) else [init_targets]:
            session.run(op)
    several = isinstance(x, (list, tuple))
    xs, shapes = (list(x), list(x_shape)) if several else ([x], [x_shape])
    xs = [tf.convert_to_tensor(v) for v in xs]
    given = x_init_value if several and x_init_value is not None else [x_init_value] * len(xs)
    values = [np.random.random_sample(tuple(s)) if v is None else np.array(v) for v, s in zip(given, shapes)]
    values = [np.array(v, t.dtype.np) for v, t in zip(values, xs)]
    feeds = {**(extra_feed_dict or {}), **dict(zip(xs, values))}
    pairs = [_jacobians(session, t, v, y, tuple(y_shape), delta, feeds) for t, v in zip(xs, values)]
    return pairs if several else pairs[0]


def _jacobians(session: Any, x: Tensor, value: np.ndarray, y: Tensor, y_shape: tuple[int, ...], delta: float,
               feeds: dict[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    with y.graph.as_default():
        dy = tf.placeholder(y.dtype, y_shape)
        dx = tf.gradients(y, x, dy)[0]
    rows, columns = value.size, int(np.prod(y_shape))
    exact, near = np.zeros((rows, columns), x.dtype.np), np.zeros((rows, columns), x.dtype.np)
    for j in range(columns):
        if dx is not None:
            one = np.zeros(columns, y.dtype.np)
            one[j] = 1
            found = session.run(dx, {**feeds, dy: one.reshape(y_shape)})
            if hasattr(found, "dense_shape"):
                dense = np.zeros_like(value)
                np.add.at(dense, found.indices, found.values)
                found = dense
            exact[:, j] = np.ravel(found)
    for i in range(rows):
        ends = []
        for sign in (1, -1):
            moved = value.copy()
            moved.reshape(-1)[i] += sign * delta
            ends.append(np.ravel(session.run(y, {**feeds, x: moved})))
        near[i] = (ends[0] - ends[1]) / (2 * delta)
    return exact, near


def compute_gradient_error(x: Any, x_shape: Any, y: Tensor, y_shape: Any, x_init_value: Any = None, delta: float = 1e-3,
                           init_targets: Any = None,
                           extra_feed_dict: Any = None) -> float:
    """The largest difference between the two Jacobians of `compute_gradient`."""
    found = compute_gradient(x, x_shape, y, y_shape, x_init_value, delta, init_targets, extra_feed_dict)
    pairs = found if isinstance(found, list) else [found]
    return max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=0.0)


# ---------------------------------------------------------------- test cases


class CapturedWrites:
    """What was written to a stream: `contents()`."""

    def __init__(self, path: str):
        self.path = path
        self.text: str | None = None

    def contents(self) -> str:
        if self.text is not None:
            return self.text
        with open(self.path, encoding="utf-8", errors="replace") as f:
            return f.read()


class CheckedThread:
    """A thread whose exception fails the test that made it."""

    def __init__(self, case: TestCase, target: Callable[..., Any], args: Any, kwargs: Any):
        self._case = case
        self._error: Exception | None = None
        self._call = lambda: target(*args, **kwargs)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._call()
        except Exception as e:
            self._error = e

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        """Waits, and fails the test if the thread failed."""
        if self._thread.ident is not None:
            self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            self._case.fail(f"Error in checkedThread: {error!r}")


class TestCase(unittest.TestCase):
    """A unittest case with an empty default graph in each test, sessions, and comparisons of arrays and tensors."""

    def setUp(self) -> None:
        self._clear()
        random.seed(SEED)
        np.random.seed(SEED)
        tf.reset_default_graph()
        tf.set_random_seed(SEED)

    def tearDown(self) -> None:
        for thread in self._threads:
            thread.join()
        self._clear()

    _cached: Any = None
    _threads: tuple[CheckedThread, ...] = ()

    def _clear(self) -> None:
        self._threads = ()
        if self._cached is not None:
            self._cached.close()
            self._cached = None

    def get_temp_dir(self) -> str:
        """A folder of this test, made new."""
        if not hasattr(self, "_tempdir"):
            self._tempdir = tempfile.mkdtemp(dir=get_temp_dir())
        return self._tempdir

    def evaluate(self, tensors: Any) -> Any:
        """Their values in the default session, or in one of this test."""
        session = tf.get_default_session()
        if session is not None:
            return session.run(tensors)
        with self.cached_session() as session:
            return session.run(tensors)

    @contextmanager
    def session(self, graph: Graph | None = None, config: Any = None, use_gpu: bool = False, force_gpu: bool = False) -> Iterator[Any]:
        """A new session, which is the default one inside."""
        with Session(graph=graph, config=config) as session:
            yield session

    @contextmanager
    def cached_session(self, graph: Graph | None = None, config: Any = None, use_gpu: bool = False,
                       force_gpu: bool = False) -> Iterator[Any]:
        """The session of this test, made by the first call and kept until the end; the default one inside."""
        if self._cached is None:
            self._cached = Session(graph=graph, config=config)
        elif graph is not None and graph is not self._cached.graph:
            raise ValueError("The graph used to get the cached session is different than the one that was used to create the session.")
        with self._cached.graph.as_default(), self._cached.as_default():
            yield self._cached

    def test_session(self, graph: Graph | None = None, config: Any = None, use_gpu: bool = False, force_gpu: bool = False) -> Any:
        """`cached_session`, or a new session when a graph is given."""
        if self.id().endswith(".test_session"):
            self.skipTest("Not a test.")
        return self.cached_session(config=config) if graph is None else self.session(graph, config)

    test_session.__test__ = False  # type: ignore[attr-defined]

    # -- helpers

    @contextmanager
    def captureWritesToStream(self, stream: Any) -> Iterator[CapturedWrites]:
        """What is written to `sys.stdout` or `sys.stderr` inside, also past Python; `.contents()` of what it yields."""
        stream.flush()
        number = stream.fileno()
        kept = os.dup(number)
        with tempfile.NamedTemporaryFile(dir=self.get_temp_dir()) as found:
            os.dup2(found.fileno(), number)
            captured = CapturedWrites(found.name)
            try:
                yield captured
            finally:
                stream.flush()
                os.dup2(kept, number)
                os.close(kept)
                captured.text = captured.contents()

    def checkedThread(self, target: Callable[..., Any], args: Any = (), kwargs: Any = None) -> CheckedThread:
        """A thread that is not started yet; `join`, or the end of the test, fails when `target` raised."""
        thread = CheckedThread(self, target, args or (), kwargs or {})
        self._threads += (thread,)
        return thread

    # -- comparing

    def _value(self, x: Any) -> Any:
        if isinstance(x, (Tensor, tf.Variable)):
            return self.evaluate(x)
        return x

    def _array(self, x: Any) -> np.ndarray:
        return np.asarray(self._value(x))

    def assertShapeEqual(self, np_array: Any, tf_tensor: Any, msg: str | None = None) -> None:
        """The tensor's static shape is that of the array."""
        self.assertEqual(list(np.shape(np_array)), tf_tensor.get_shape().as_list(), msg)

    def assertAllEqual(self, a: Any, b: Any, msg: str | None = None) -> None:
        """Equal shapes and elements; NaN equals NaN."""
        a, b = self._array(a), self._array(b)
        self.assertEqual(a.shape, b.shape, f"Shape mismatch: expected {a.shape}, got {b.shape}. {msg or ''}")
        same = a == b
        if a.dtype.kind in "fc" and b.dtype.kind in "fc":
            same = same | (np.isnan(a) & np.isnan(b))
        if not np.all(same):
            where = np.argwhere(~np.atleast_1d(same))[:5]
            self.fail(f"not equal at {where.tolist()}: {a!r} and {b!r}. {msg or ''}")

    def assertNotAllEqual(self, a: Any, b: Any, msg: str | None = None) -> None:
        try:
            self.assertAllEqual(a, b)
        except AssertionError:
            return
        self.fail(f"The two values are equal at all elements. {msg or ''}")

    def assertAllClose(self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6, msg: str | None = None) -> None:
        """Each element differs by at most atol + rtol * |b|; dicts and lists are compared item by item."""
        a, b = self._value(a), self._value(b)
        if isinstance(a, dict):
            self.assertEqual(set(a), set(b), msg)
            for k in a:
                self.assertAllClose(a[k], b[k], rtol, atol, f"in {k!r}. {msg or ''}")
        elif isinstance(a, (list, tuple)) and _ragged(a):
            self.assertEqual(len(a), len(b), msg)
            for i, (x, y) in enumerate(zip(a, b)):
                self.assertAllClose(x, y, rtol, atol, f"in item {i}. {msg or ''}")
        else:
            x, y = self._array(a), self._array(b)
            self.assertEqual(x.shape, y.shape, f"Shape mismatch: expected {x.shape}, got {y.shape}. {msg or ''}")
            if np.float16 in (x.dtype, y.dtype):
                rtol, atol = max(rtol, 1e-3), max(atol, 1e-3)
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=msg or "", equal_nan=True)

    def assertNotAllClose(self, a: Any, b: Any, **kwargs: Any) -> None:
        try:
            self.assertAllClose(a, b, **kwargs)
        except AssertionError:
            return
        self.fail("The two values are close at all elements.")

    def assertAllCloseAccordingToType(self, a: Any, b: Any, rtol: float = 1e-6, atol: float = 1e-6, float_rtol: float = 1e-6,
                                      float_atol: float = 1e-6, half_rtol: float = 1e-3, half_atol: float = 1e-3,
                                      bfloat16_rtol: float = 1e-2, bfloat16_atol: float = 1e-2, msg: str | None = None) -> None:
        """`assertAllClose` with the tolerance of the shorter of the two dtypes."""
        dtypes = [v.dtype.base_dtype if isinstance(getattr(v, "dtype", None), types.DType) else types.as_dtype(np.asarray(v).dtype)
                  for v in (a, b)]
        for dtype, r, t in ((types.float32, float_rtol, float_atol), (types.complex64, float_rtol, float_atol),
                            (types.float16, half_rtol, half_atol), (types.bfloat16, bfloat16_rtol, bfloat16_atol)):
            if dtype in dtypes:
                rtol, atol = max(rtol, r), max(atol, t)
        self.assertAllClose(a, b, rtol, atol, msg)

    def assertArrayNear(self, farray1: Any, farray2: Any, err: float, msg: str | None = None) -> None:
        """Lists of numbers whose items differ by at most `err`."""
        self.assertEqual(len(farray1), len(farray2), msg)
        for a, b in zip(farray1, farray2):
            self.assertNear(float(a), float(b), err, msg)

    def assertNear(self, f1: float, f2: float, err: float, msg: str | None = None) -> None:
        self.assertTrue(f1 == f2 or abs(f1 - f2) <= err, f"{f1!r} != {f2!r} +/- {err!r}. {msg or ''}")

    def assertNDArrayNear(self, ndarray1: Any, ndarray2: Any, err: float, msg: str | None = None) -> None:
        self.assertTrue(np.linalg.norm(np.asarray(ndarray1) - ndarray2) < err, msg)

    def assertAllGreater(self, a: Any, comparison_target: Any) -> None:
        self.assertGreater(self._array(a).min(), comparison_target)

    def assertAllGreaterEqual(self, a: Any, comparison_target: Any) -> None:
        self.assertGreaterEqual(self._array(a).min(), comparison_target)

    def assertAllLess(self, a: Any, comparison_target: Any) -> None:
        self.assertLess(self._array(a).max(), comparison_target)

    def assertAllLessEqual(self, a: Any, comparison_target: Any) -> None:
        self.assertLessEqual(self._array(a).max(), comparison_target)

    def assertAllInRange(self, target: Any, lower_bound: Any, upper_bound: Any, open_lower_bound: bool = False,
                         open_upper_bound: bool = False) -> None:
        """All elements between the bounds, which belong to the range unless open."""
        x = self._array(target)
        low = x > lower_bound if open_lower_bound else x >= lower_bound
        high = x < upper_bound if open_upper_bound else x <= upper_bound
        self.assertTrue(bool(np.all(low & high)), f"not in range: {x[~(low & high)][:5]}")

    def assertAllInSet(self, target: Any, expected_set: Any) -> None:
        extra = set(self._array(target).ravel().tolist()) - set(expected_set)
        self.assertFalse(extra, f"{len(extra)} unexpected value(s): {sorted(extra)[:5]}")

    def assertStartsWith(self, actual: str, expected_start: str, msg: str | None = None) -> None:
        self.assertTrue(actual.startswith(expected_start), f"{actual!r} does not start with {expected_start!r}. {msg or ''}")

    def assertItemsEqual(self, expected_seq: Any, actual_seq: Any, msg: str | None = None) -> None:
        """The same items as often, in any order."""
        self.assertCountEqual(expected_seq, actual_seq, msg)

    def assertSameElements(self, expected_seq: Any, actual_seq: Any, msg: str | None = None) -> None:
        """The same items, however often."""
        self.assertEqual(_distinct(expected_seq), _distinct(actual_seq), msg)

    def assertContainsSubset(self, expected_subset: Any, actual_set: Any, msg: str | None = None) -> None:
        missing = set(expected_subset) - set(actual_set)
        self.assertFalse(missing, f"{missing} missing in {actual_set!r}. {msg or ''}")

    def assertNoCommonElements(self, expected_seq: Any, actual_seq: Any, msg: str | None = None) -> None:
        common = set(expected_seq) & set(actual_seq)
        self.assertFalse(common, f"Common elements {common}. {msg or ''}")

    def assertLen(self, container: Any, expected_len: int, msg: str | None = None) -> None:
        self.assertEqual(len(container), expected_len, f"{container!r} has another length than {expected_len}. {msg or ''}")

    def assertEmpty(self, container: Any, msg: str | None = None) -> None:
        self.assertLen(container, 0, msg)

    def assertNotEmpty(self, container: Any, msg: str | None = None) -> None:
        self.assertGreater(len(container), 0, f"{container!r} is empty. {msg or ''}")

    def assertBetween(self, value: Any, minv: Any, maxv: Any, msg: str | None = None) -> None:
        self.assertTrue(minv <= value <= maxv, f"{value!r} unexpectedly not between {minv!r} and {maxv!r}. {msg or ''}")

    def assertEndsWith(self, actual: str, expected_end: str, msg: str | None = None) -> None:
        self.assertTrue(actual.endswith(expected_end), f"{actual!r} does not end with {expected_end!r}. {msg or ''}")

    def assertDictAlmostEqual(self, a: Any, b: Any, places: int | None = None, msg: str | None = None, delta: float | None = None) -> None:
        """Equal keys, and values that `assertAlmostEqual` accepts."""
        self.assertEqual(set(a), set(b), msg)
        for k in a:
            self.assertAlmostEqual(a[k], b[k], places, f"at {k!r}. {msg or ''}", delta)  # type: ignore[call-overload]

    def assertSequenceAlmostEqual(self, expected_seq: Any, actual_seq: Any, places: int | None = None, msg: str | None = None,
                                  delta: float | None = None) -> None:
        """Equal lengths, and items that `assertAlmostEqual` accepts."""
        self.assertLen(actual_seq, len(expected_seq), msg)
        for i, (x, y) in enumerate(zip(expected_seq, actual_seq)):
            self.assertAlmostEqual(x, y, places, f"at {i}. {msg or ''}", delta)  # type: ignore[call-overload]

    def assertDTypeEqual(self, target: Any, expected_dtype: Any) -> None:
        self.assertEqual(self._array(target).dtype, np.dtype(expected_dtype))

    def assertDeviceEqual(self, device1: Any, device2: Any, msg: str | None = None) -> None:
        self.assertEqual(device1 or "", device2 or "", msg)

    def assertProtoEquals(self, expected_message_maybe_ascii: Any, message: Any, msg: str | None = None) -> None:
        """Equal messages (GraphDefs, configs); text forms are not read."""
        self.assertEqual(expected_message_maybe_ascii, message, msg)

    def assertEqualGraphDef(self, expected: Any, actual: Any) -> None:
        assert_equal_graph_def(actual, expected)

    # -- errors

    @contextmanager
    def assertRaisesWithPredicateMatch(self, exception_type: Any, expected_err_re_or_predicate: Any) -> Iterator[None]:
        """Something inside raises, and its message (with the op's name and those of its inputs) matches."""
        matches: Callable[[Any], Any] = expected_err_re_or_predicate
        if not callable(matches):
            def matches(e: Any) -> Any:
                text = e.message if isinstance(e, errors.OpError) else str(e)
                op = e.op if isinstance(e, errors.OpError) else None
                if op is not None:
                    text += "\nCaused by op: " + op.name
                return re.search(expected_err_re_or_predicate, text)
        try:
            yield
        except exception_type as e:
            if not matches(e):
                raise AssertionError(f"Exception of type {type(e)}: {e} does not match {expected_err_re_or_predicate!r}") from e
            return
        self.fail(f"{getattr(exception_type, '__name__', exception_type)} not raised")

    def assertRaisesWithLiteralMatch(self, expected_exception: Any, expected_exception_message: str, callable_obj: Any = None, *args: Any,
                                     **kwargs: Any) -> Any:
        """A call (or, as a context manager, what is inside) raises with exactly that message."""
        if callable_obj is None:
            return self.assertRaisesRegex(expected_exception, f"^{re.escape(expected_exception_message)}$")
        with self.assertRaisesWithLiteralMatch(expected_exception, expected_exception_message):
            callable_obj(*args, **kwargs)
        return None

    def assertRaisesOpError(self, expected_err_re_or_predicate: Any) -> Any:
        return self.assertRaisesWithPredicateMatch(errors.OpError, expected_err_re_or_predicate)

    def assertRaisesIncompatibleShapesError(self, exception_type: Any = errors.InvalidArgumentError) -> Any:
        words = "Incompatible shapes|Dimensions must be equal|must have the same|required broadcastable"
        return self.assertRaisesWithPredicateMatch(exception_type, words)


def _ragged(values: Sequence[Any]) -> bool:
    """Whether the items are structures of their own, or arrays of different shapes."""
    if any(isinstance(v, (dict, Tensor, tf.Variable)) for v in values):
        return True
    return len({np.shape(v) for v in values}) > 1


def _distinct(items: Any) -> Any:
    try:
        return set(items)
    except TypeError:  # items that cannot be hashed
        return [x for i, x in enumerate(items) if x not in list(items)[:i]]


class StubOutForTesting:
    """Replaces attributes for a while: `Set(parent, name, value)`, then `UnsetAll()`; a context manager."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any]] = []

    def Set(self, parent: Any, child_name: str, new_child: Any) -> None:
        """Replaces `parent.child_name`.  Raises AttributeError when there is none."""
        old = vars(parent).get(child_name) if isinstance(parent, type) else None
        self._old.append((parent, child_name, old if isinstance(old, (staticmethod, classmethod)) else getattr(parent, child_name)))
        setattr(parent, child_name, new_child)

    SmartSet = Set

    def UnsetAll(self) -> None:
        """Puts the old ones back, the last replaced first."""
        while self._old:
            setattr(*self._old.pop())

    SmartUnsetAll = CleanUp = UnsetAll

    def __enter__(self) -> StubOutForTesting:
        return self

    def __exit__(self, *problem: Any) -> None:
        self.UnsetAll()

    def __del__(self) -> None:
        self.UnsetAll()


# ---------------------------------------------------------------- benchmarks

_benchmarks: list[type[Benchmark]] = []


class Benchmark:
    """A base for classes of benchmarks: methods `benchmark...`, which `tf.test.main` runs with `--benchmarks=REGEX`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _benchmarks.append(cls)

    def report_benchmark(self, iters: int | None = None, cpu_time: float | None = None, wall_time: float | None = None,
                         throughput: float | None = None, extras: Any = None, name: str | None = None) -> None:
        """Writes one line of the numbers given; `name` is the calling method's by default."""
        numbers = {"iters": iters, "cpu_time": cpu_time, "wall_time": wall_time, "throughput": throughput, **(extras or {})}
        print(name or self._name(), *(f"{k}: {v}" for k, v in numbers.items() if v is not None))

    def _name(self) -> str:
        frame: Any = sys._getframe(1)
        while frame is not None and not (frame.f_code.co_name.startswith("benchmark") and frame.f_locals.get("self") is self):
            frame = frame.f_back
        return f"{type(self).__name__}.{frame.f_code.co_name}" if frame is not None else type(self).__name__

    def run_op_benchmark(self, sess: Any, op_or_tensor: Any, feed_dict: Any = None, burn_iters: int = 2, min_iters: int = 10,
                         store_trace: bool = False, store_memory_usage: bool = True, name: str | None = None, extras: Any = None,
                         mbs: float = 0) -> dict[str, Any]:
        """Runs it `burn_iters` times, then times `min_iters` runs and reports the median.

        Args:
            store_trace: also returns a Chrome trace of one more run, as extras["full_trace_chrome_format"].
            store_memory_usage: also reports the bytes of the run's arena and results, as `tf.explain` tells them.
            mbs: megabytes moved by the op, for the throughput.

        Returns:
            What was reported; among its extras "wall_time_mean" and "wall_time_stdev" (seconds).
        """
        seconds = []
        for _ in range(burn_iters):
            sess.run(op_or_tensor, feed_dict)
        for _ in range(min_iters):
            start = time.perf_counter()
            sess.run(op_or_tensor, feed_dict)
            seconds.append(time.perf_counter() - start)
        extras = dict(extras or {})
        more: dict[str, Any] = {}
        if store_trace:
            from ..debug.timeline import Timeline

            metadata = tf.RunMetadata()
            sess.run(op_or_tensor, feed_dict, tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), metadata)
            more["full_trace_chrome_format"] = Timeline(metadata.step_stats).generate_chrome_trace_format()
        if store_memory_usage:
            extras["allocator_maximum_num_bytes_cpu"] = tf.explain(op_or_tensor, feed_dict, sess).peak_bytes
        median = float(np.median(seconds)) if seconds else -1.0
        values = {"iters": min_iters, "wall_time": median, "extras": extras, "name": name, "throughput": mbs / median}
        self.report_benchmark(**values)
        more["wall_time_mean"] = float(np.mean(seconds)) if seconds else -1.0
        more["wall_time_stdev"] = float(np.std(seconds, ddof=1)) if len(seconds) > 1 else -1.0
        return {**values, "extras": {**extras, **more}}

    def evaluate(self, tensors: Any) -> Any:
        """Their values in the default session."""
        return tf.get_default_session().run(tensors)


def _run_benchmarks(wanted: str) -> None:
    found = [(cls, name) for cls in _benchmarks for name in dir(cls) if name.startswith("benchmark") and callable(getattr(cls, name))
             and (wanted == "all" or re.search(wanted, f"{cls.__module__}.{cls.__name__}.{name}"))]
    if not found:
        raise ValueError(f"No benchmarks matched the pattern: {wanted!r}")
    made: dict[type, Any] = {}
    for cls, name in found:
        getattr(made.setdefault(cls, cls()), name)()
