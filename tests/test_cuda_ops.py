"""Every op that has a kernel, and every form that kernels of a GPU take, on the emulated GPU.

Values are those of the reference interpreter; the emulator checks bounds, races and reads of what nothing wrote, and refuses results
that are not written in full.
"""
from __future__ import annotations

import warnings
import zlib

import numpy as np
import pytest
import test_ops
from on_gpu import a_gpu
from test_ops import COVERED, assert_same, call, cases, random_array

import graphflow as tf
from graphflow import types
from graphflow.flags import flags
from graphflow.ops.opdef import REGISTRY
from graphflow.runtime import placement
from graphflow.runtime.cuda import driver
from graphflow.testing import ptx
from graphflow.testing.gpu import EmulatedDriver


@pytest.fixture(scope="module")
def machine():
    with a_gpu() as made:
        yield made


@pytest.fixture(autouse=True)
def gpu(machine):
    with driver.installed(machine), flags.override(early=0, check=0, debug=0), tf.Graph().as_default():
        yield machine


def results(fetches, feeds, interpret=0):
    with flags.override(interpret=interpret), tf.Session() as sess, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy of the reference
        return sess.run(fetches, feeds)


def launched(gpu, fetches, feeds):
    """The results, and the number of kernels that made them."""
    before = gpu.counters.launches
    found = results(fetches, feeds)
    return found, gpu.counters.launches - before


# ---------------------------------------------------------------- the registry

# Ops that run on the host, by why; all others have kernels for all of their cases.
HOST = {
    "it is computed by NumPy, on the host": """
        BesselI0e BesselI1e Bincount CTCBeamSearchDecoder CTCGreedyDecoder CTCLabels CTCUniqueLabels
        CollapseRepeated CombinedNonMaxSuppression DCT DrawBoundingBoxesV2 DynamicPartition DynamicStitch EditDistance FFT FirstOfEqual
        GatherTree IFFT IRFFT ListDiff NextAfter NonMaxSuppressionV5 RFFT SetOperation SetSize
        SparseCross SparseOrder SparseRows Unique UniqueWithCounts Where""",
    "strings live in host memory": """
        AddStrings AsString DecodeBase64 DecodeCSV DecodeCompressed DecodeJSONExample DecodeRaw EncodeBase64 ReduceJoin RegexFullMatch
        RegexReplace StringJoin StringLength StringLower StringSplit StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast
        StringToHashBucketStrong StringToNumber StringUpper Substr UnicodeEncode UnicodeTranscode UnsortedSegmentJoin""",
}
HOSTED = {name: why for why, names in HOST.items() for name in names.split()}
# Ops that need no kernel: what they give is memory that is there, or follows from shapes.
NO_WORK = set("EnsureShape Eye Identity PlaceholderWithDefault Rank Shape Size SizeVector StopGradient".split())


@pytest.mark.parametrize("op", [op for op in COVERED if op.type in HOSTED], ids=lambda op: op.type)
def test_op_of_the_host(op):
    for args, attrs in cases(op):
        assert placement.why_not(call(op, args, attrs)[1][0].op) == HOSTED[op.type]


def of_each_dtype(op):
    """Its cases; of those that its dtypes give, one a dtype (shapes are `test_form`'s matter)."""
    mine, given = cases(op), len(op.samples)
    if not test_ops.has_automatic_cases(op):
        return mine
    return mine[:given] + list({test_ops.dtype_of(args[-1]): (args, attrs) for args, attrs in mine[given:]}.values())


# Attention has kernels where its depth is known: tests/test_cuda_attention.py.
@pytest.mark.parametrize("op", [op for op in COVERED if op.type not in HOSTED and op.family != "attention"], ids=lambda op: op.type)
def test_op(op, gpu):
    feeds, outputs, notes = {}, [], []
    for i, (args, attrs) in enumerate(of_each_dtype(op)):
        more, found = call(op, args, attrs, (lambda a: [None] * np.ndim(a)) if i % 2 else None)
        assert placement.why_not(found[0].op) is None
        feeds |= more
        outputs += found
        notes += [f"{op.type}{attrs} of {args}"] * len(found)
    expected = results(outputs, feeds, 1)
    actual, kernels = launched(gpu, outputs, feeds)
    for t, e, a, note in zip(outputs, expected, actual, notes, strict=True):
        assert np.asarray(a).dtype == test_ops.numpy_dtype(t.dtype)
        assert_same(a, e, t.dtype, 4 * op.tolerance, note=note)
    assert (kernels > 0) == (op.type not in NO_WORK)


# ---------------------------------------------------------------- numbers that are none

NUMBERS = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-45, -1e-40, 3e38, -3e38, 88.5, -103.5], np.float64)
BEYOND = {"Sin", "Cos", "Tan"}  # kernels give NaN for |x| > 2^46, on both devices: tests/test_vecmath.py


def _plain(op):
    fits = op.scalar is not None and op.family == "elementwise" and op in COVERED and test_ops.has_automatic_cases(op)
    return fits and types.float32 in op.dtypes and len(op.params) <= 2 and op.type != "Complex"


@pytest.mark.parametrize("op", [op for op in REGISTRY.values() if _plain(op)], ids=lambda op: op.type)
def test_numbers_that_are_none(op):
    """All pairs of NaN, infinities, zeros, denormal and large numbers, as the CPU's kernels have them, and the op's special values."""
    with np.errstate(all="ignore"):
        values = NUMBERS.astype(np.float32)
        if op.type in BEYOND:
            values = values[~(np.abs(values) > 2.0 ** 46)]
    points = np.array([p if isinstance(p, tuple) else (p,) for p in op.special], np.float32).reshape(-1, len(op.params)).T
    grid = np.stack([g.reshape(-1) for g in np.meshgrid(*[values] * len(op.params))])
    feeds, outputs = call(op, np.concatenate([points, grid], 1), {}, lambda a: [None])
    (want,), (found,) = results(outputs, feeds, 1), results(outputs, feeds)
    with np.errstate(all="ignore"):
        assert np.asarray(found).dtype == np.asarray(want).dtype
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6, equal_nan=True)


# ---------------------------------------------------------------- the forms of kernels

FORMS: dict[str, tuple] = {}


def form(name, make, *shapes, dtypes="float32", **more):
    """A form: `make(*placeholders)`; shapes: a call each, tuples of the shapes of its feeds; more: see `test_form`."""
    FORMS[name] = make, shapes, dtypes.split(), more


PAIRS = [((33, 127),), ((1, 1),), ((0, 5),), ((5, 0),), ((3, 1025),), ((2, 5000),)]
FULL = [s for s in PAIRS if 0 not in s[0]]
LINES = [((n,),) for n in (1, 3, 33, 127, 1025, 5000)]
ALL = "float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 complex64"


def centred(x):
    return x - tf.reduce_mean(x, 1, keepdims=True)


def pools(x):
    top, mean = tf.nn.max_pool, tf.nn.avg_pool
    square = [tf.square(top(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")), tf.square(mean(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME"))]
    return [top(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME"), mean(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"),
            *[tf.gradients(tf.reduce_sum(y), x)[0] for y in square]]


form("points", lambda x: x * x + x, *PAIRS, dtypes=ALL)
form("points of three axes", lambda x, y, z: x * y + z, ((5, 7, 9), (7, 1), (9,)), ((2, 1, 33), (1, 1), (1,)),
     dtypes="float32 int64 bfloat16")
form("points stored several times", lambda x: [x + 1.0, x * 2.0, tf.cast(x, tf.float16), x > 0.0], *PAIRS)
form("booleans", lambda x, y: [x & ~y, tf.reduce_any(x, 0), tf.reduce_all(y), tf.transpose(x)], *[s * 2 for s in PAIRS], dtypes="bool")
form("rows", lambda x: [tf.nn.softmax(x), tf.nn.log_softmax(x), tf.reduce_logsumexp(x, 1)], *PAIRS, dtypes="float32 float16")
form("rows of known length", lambda x: tf.nn.softmax(x) * 2.0, ((5, 127),), ((3, 1024),), ((2, 4096),), ((1, 5000),), known=True)
form("rows in two passes", lambda x: tf.nn.softmax(x), ((2, 70000),))
form("layer norm", lambda x: centred(x) * tf.rsqrt(tf.reduce_mean(tf.square(centred(x)), 1, keepdims=True) + 1e-6), *FULL, atol=1e-5)
form("folds of rows", lambda x: [tf.reduce_sum(x, 1), tf.reduce_max(x, 1), tf.reduce_min(x, 1), tf.reduce_prod(x[:, :3], 1),
                                 tf.argmax(x, 1)], *FULL, dtypes="float32 int64 uint8 bfloat16", atol=2e-5)
form("folds of columns", lambda x: [tf.reduce_sum(x, 0), tf.reduce_max(x, 0), tf.reduce_mean(x * x, 0)], *FULL, ((3000, 5),),
     ((1025, 33),), atol=2e-5)
form("folds of columns, of whole numbers", lambda x: [tf.reduce_sum(x, 0), tf.reduce_max(x, 0)], ((3000, 5),), ((33, 127),),
     dtypes="int32 uint8")
form("folds of the middle", lambda x: [tf.reduce_sum(x, 1), tf.reduce_max(x, [0, 2])], ((7, 33, 5),), ((1, 1, 1),), ((2, 127, 33),),
     atol=1e-5)
form("folds of everything", lambda x: [tf.reduce_sum(x), tf.reduce_max(x), tf.reduce_mean(x), tf.reduce_sum(x * x)], *LINES,
     ((40000,),), atol=1e-4)
form("folds of everything, of whole numbers", lambda x: [tf.reduce_sum(x), tf.reduce_min(x)], *LINES, ((40000,),), dtypes="int64 uint8")
form("folds of nothing", lambda x: [tf.reduce_sum(x), tf.reduce_prod(x), tf.reduce_max(x), tf.reduce_sum(x, 0)], ((0,),))
form("squares", tf.transpose, *PAIRS, ((64, 64),), dtypes="float32 float64 uint8 int16 complex64")
form("squares of a batch", lambda x: [tf.transpose(x, [0, 2, 1]) + 1.0, tf.transpose(x, [2, 0, 1]), tf.transpose(x, [1, 0, 2])],
     ((3, 33, 40),), ((1, 20, 64),), ((2, 0, 5),), ((64, 5, 33),))
form("scans", lambda x: [tf.cumsum(x, 1), tf.cumsum(x, 0, exclusive=True), tf.cumsum(x, 1, reverse=True), tf.cumprod(x[:, :4], 1)], *PAIRS,
     dtypes="float32 int32", atol=2e-4)
form("a long scan", lambda x: [tf.cumsum(x), tf.cumsum(x, exclusive=True, reverse=True)], *LINES, dtypes="float32 int64", atol=5e-4)
form("windows", pools, ((2, 9, 11, 3),), ((1, 2, 2, 33),), ((0, 9, 11, 3),), atol=1e-5)
form("movement", lambda x: [tf.concat([x, x * 2.0, x[:1]], 0), tf.pad(x, [[1, 2], [0, 3]]), tf.reverse(x, [1]), x[::2, ::-1],
                            tf.tile(x, [2, 3]), tf.stack([x, x], 1), tf.reshape(x, [-1]), tf.roll(x, 1, 0)],
     ((33, 127),), ((1, 1),), ((4, 1025),))


def filled(name, k, dtype, shape):
    """Feed number `k` of a form: small numbers, whole for integers."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {k}".encode()))
    return random_array(rng, types.as_dtype(dtype), shape, (0, 3) if dtype.startswith("u") else (-3, 3))


@pytest.mark.parametrize("name, dtype", [(name, dtype) for name, (_, _, dtypes, _) in FORMS.items() for dtype in dtypes])
def test_form(name, dtype, gpu):
    """Unknown sizes, one kernel for all; with `known`, sizes in the text."""
    make, shapes, _, more = FORMS[name]
    compare(gpu, make, [[filled(name, k, dtype, s) for k, s in enumerate(given)] for given in shapes], dtype, **more)


def compare(gpu, make, calls, dtype, known=False, atol=0.0, want=None):
    """`make` of placeholders, for each call's arrays: the GPU's results are the reference's."""
    tolerance = {"float16": 4.0, "bfloat16": 2.0}.get(dtype, 4.0)
    total = 0
    for n, arrays in enumerate(calls):
        if n == 0 or known:
            places = [tf.placeholder(test_ops.dtype_of(a), a.shape if known else [None] * a.ndim) for a in arrays]
            fetches = make(*places)
            fetches = fetches if isinstance(fetches, list) else [fetches]
        feeds = dict(zip(places, map(np.asarray, arrays)))
        expected = results(fetches, feeds, 1)
        actual, kernels = launched(gpu, fetches, feeds)
        total += kernels
        for t, e, a in zip(fetches, expected, actual):
            assert np.asarray(a).dtype == test_ops.numpy_dtype(t.dtype)
            assert_same(a, e, t.dtype, tolerance, atol=atol, note=f"{t} of shapes {[a.shape for a in arrays]}")
    assert total or not any(np.size(a) for arrays in calls for a in arrays)


@pytest.mark.parametrize("source", ALL.split() + ["bool"])
def test_casts(source, gpu):
    """From each dtype to each, in one launch.  What negative floats become in unsigned integers is nobody's promise."""
    into = [d for d in ALL.split() + ["bool"] if d != source]
    of = [d for d in into if d[0] != "u"] if source[:2] in ("fl", "bf", "co") else into
    x = filled("casts", 0, source, (127,))
    compare(gpu, lambda x: [tf.cast(x, d) for d in of], [[x]], source)
    if of != into:
        compare(gpu, lambda x: [tf.cast(tf.abs(x) if source[0] != "c" else x * tf.conj(x), d) for d in into], [[x]], source)


def of_rows(n, width, many, seed=0, repeat=True):
    """(a table, indices with repetitions, updates)"""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, n, many) if repeat else rng.permutation(n)[:many]
    return rng.integers(-9, 9, (n, width)), ids.astype(np.int32), rng.integers(-9, 9, (many, width))


@pytest.mark.parametrize("dtype, deterministic", [("float32", 0), ("float32", 1), ("float64", 0), ("int64", 0), ("int64", 1),
                                                  ("float16", 1), ("bfloat16", 0), ("uint8", 0)])
def test_updates(dtype, deterministic, gpu):
    """Rows that are hit once, several times, or not; numbers whose sums are exact in any order."""
    def make(i, x, table):
        n = tf.shape(table)[0]
        several = [tf.unsorted_segment_sum(x, i, n), tf.scatter_nd(tf.expand_dims(i, 1), x, tf.shape(table)),
                   tf.maximum(tf.unsorted_segment_max(x, i, n), tf.cast(-9 if dtype[0] != "u" else 0, x.dtype)),
                   tf.tensor_scatter_add(table, tf.expand_dims(i, 1), x)]
        slope = tf.gradients(tf.gather(table, i) * x, table) if dtype.startswith("float") else []
        return several + [tf.convert_to_tensor(g) for g in slope]

    with flags.override(deterministic=deterministic):
        calls = []
        for n, width, many in ((50, 4, 90), (1, 1, 1), (7, 33, 127), (5, 3, 0)):
            table, ids, x = of_rows(n, width, many)
            of = [random_array(np.random.default_rng(0), types.as_dtype(dtype), (1,), (0, 1)).view(np.ndarray)]
            kind = test_ops.Bf16 if dtype == "bfloat16" else np.ndarray
            cast = [np.abs(a).astype(of[0].dtype).view(kind) if dtype[0] == "u" else a.astype(of[0].dtype).view(kind) for a in (x, table)]
            calls.append([ids, *cast])
        compare(gpu, make, calls, dtype)


SEGMENTS = tf.segment_sum, tf.segment_mean, tf.segment_max, tf.segment_min, tf.segment_prod


@pytest.mark.parametrize("dtype", ["float32", "int32", "bfloat16"])
def test_sorted_segments(dtype, gpu):
    """Segments of several rows, of one and of none; their number follows from the last id."""
    def make(x, i):
        found = [f(x, i) for f in SEGMENTS[:4]] + [tf.segment_prod(tf.sign(x), i)]
        return found + ([tf.gradients(y, x)[0] for y in found[:4]] if dtype.startswith("float") else [])

    rng, calls = np.random.default_rng(3), []
    for many, width, n in ((90, 4, 50), (33, 1, 3), (1, 5, 1), (0, 3, 1)):
        ids = np.sort(rng.integers(0, n, many)).astype(np.int32)
        calls.append([random_array(rng, types.as_dtype(dtype), (many, width), (-9, 9)), ids])
    compare(gpu, make, calls, dtype)


@pytest.mark.parametrize("ids", [[0, 2, 1], [-1, 0, 0], [5, 0, 0], [0, 0, -5], [-1, -1, -1]], ids=str)
def test_segments_that_are_not_sorted(ids, gpu):
    x, i = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int32, [None])
    v = tf.Variable(0.0)
    for f in SEGMENTS:
        y = tf.reduce_sum(f(x, i)) + 0.0 * v.assign_add(1.0)
        for interpret in (0, 1):
            with flags.override(interpret=interpret), tf.Session() as sess:
                sess.run(v.initializer)
                with pytest.raises(tf.errors.InvalidArgumentError, match="segment ids are not increasing"):
                    sess.run(y, {x: np.ones((3, 2)), i: ids})
                assert sess.run(v) == 0


@pytest.mark.parametrize("deterministic", [0, 1])
def test_updates_of_variables(deterministic, gpu):
    table, ids, x = (a.astype(np.float32) if a.dtype != np.int32 else a for a in of_rows(20, 5, 64))
    changes = {"add": tf.scatter_add, "sub": tf.scatter_sub, "max": tf.scatter_max, "min": tf.scatter_min, "mul": tf.scatter_mul}
    for name, change in changes.items():
        v = tf.Variable(table)
        by = np.sign(x) + (x == 0) if name == "mul" else x
        op = change(v, ids, by)
        want = table.copy()
        at = {"add": np.add, "sub": np.subtract, "max": np.maximum, "min": np.minimum, "mul": np.multiply}[name].at
        with flags.override(deterministic=deterministic, interpret=0), tf.Session() as sess:
            sess.run(v.initializer)
            for _ in range(3):
                at(want, ids, by)
                np.testing.assert_array_equal(sess.run(op), want)
            unique = np.arange(0, 20, 2, dtype=np.int32)
            want[unique] = x[:10]
            np.testing.assert_array_equal(sess.run(tf.scatter_update(v, unique, x[:10])), want)


def test_the_last_of_equal_updates_wins(gpu):
    """As on the CPU, where updates come in order."""
    v = tf.Variable(np.zeros((4, 3), np.float32))
    ids, x = np.array([1, 3, 1, 1, 3] * 20, np.int32), np.arange(300, dtype=np.float32).reshape(100, 3)
    with flags.override(interpret=0), tf.Session() as sess:
        sess.run(v.initializer)
        want = np.zeros((4, 3), np.float32)
        want[1], want[3] = x[98], x[99]
        np.testing.assert_array_equal(sess.run(tf.scatter_update(v, ids, x)), want)


@pytest.mark.parametrize("dtype, wide", [("float32", False), ("float64", False), ("float32", True)])
def test_sorting(dtype, wide, gpu, monkeypatch):
    """Short rows, pieces of which few are wanted, runs that are merged; with equal elements, and numbers that are none."""
    for name, value in {"MOST": 64, "TILE": 64, "FEW": 12}.items():
        monkeypatch.setattr(f"graphflow.codegen.cuda.sorting.{name}", value)
    if wide:
        monkeypatch.setattr("graphflow.runtime.cuda.plan.LIMIT", 8)
    rng = np.random.default_rng(5)
    for shape, k in (((3, 5), 3), ((2, 300), 3), ((1, 200), 50)) if wide else (((3, 1, 5), 3), ((2, 300), 3), ((2, 200), 50), ((0, 4), 2)):
        odd = rng.choice([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf], shape)
        x = np.where(rng.random(shape) < 0.3, odd, rng.integers(-30, 30, shape)).astype(dtype)
        compare(gpu, lambda x, k=k: [*tf.nn.top_k(x, k), tf.argsort(x)], [[x]], dtype, known=wide)


def test_every_dtype_in_order(gpu):
    """The ends of integers; 16-bit floats."""
    x = {d: np.array([np.iinfo(d).max, np.iinfo(d).min, 1, np.iinfo(d).max - 1, np.iinfo(d).min + 1, np.iinfo(d).min, 0], d)
         for d in "int8 uint8 int16 uint16 int32 uint32 int64 uint64".split()}
    x |= {d: filled("order", 0, d, (9,)) for d in ("float16", "bfloat16")}
    for d, a in x.items():
        compare(gpu, lambda x: [tf.argsort(x), *tf.nn.top_k(x, 3)], [[a]], d)


def test_long_rows_in_order(gpu):
    """As many pairs as a block takes, and one more."""
    x = tf.placeholder(tf.float32, [1, None])
    best = tf.nn.top_k(x, 10)
    for n in (4096, 4097):
        a = np.random.default_rng(n).permutation(n).astype(np.float32)[None]
        (values, places), kernels = launched(gpu, tuple(best), {x: a})
        np.testing.assert_array_equal(values[0], n - 1 - np.arange(10))
        np.testing.assert_array_equal(a[0][places[0]], values[0])
        assert kernels == (1 if n == 4096 else 2)


def positive(rng, dtype, *shape):
    """Symmetric matrices whose eigenvalues are large enough."""
    a = rng.standard_normal(shape)
    return (a @ np.swapaxes(a, -1, -2) + shape[-1] * np.eye(shape[-1])).astype(dtype)


@pytest.mark.parametrize("dtype, wide", [("float32", False), ("float64", False), ("float32", True)])
def test_factors(dtype, wide, gpu, monkeypatch):
    """One block of rows, and several with a ragged last one; what is above a diagonal, or below, is not read."""
    if wide:
        monkeypatch.setattr("graphflow.runtime.cuda.plan.LIMIT", 8)
    rng = np.random.default_rng(0)
    forms = [(lower, h) for lower in (True, False) for h in (True, False)]
    every = [((2, 1), 5, 3, forms), ((0,), 5, 2, forms[:1]), ((1,), 35, 3, forms[1:3])]
    for batch, n, columns, some in [((1,), 35, 33, forms[:1])] if wide or dtype == "float64" else every:
        def make(x, y, some=some):
            return [tf.cholesky(x), *[tf.matrix_triangular_solve(x, y, lower=lower, adjoint=h) for lower, h in some]]

        x, y = positive(rng, dtype, *batch, n, n), rng.standard_normal((*batch, n, columns)).astype(dtype)
        compare(gpu, make, [[x, y]], dtype, known=wide, atol=1e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype, room, wide", [("float32", 40 << 10, False), ("float64", 64, False), ("float32", 64, True)])
def test_elimination(dtype, room, wide, gpu, monkeypatch):
    """In shared memory and in memory, with rows that must be exchanged, and matrices without an inverse."""
    monkeypatch.setattr("graphflow.codegen.cuda.factors.ROOM", room)
    if wide:
        monkeypatch.setattr("graphflow.runtime.cuda.plan.LIMIT", 8)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 5)).astype(dtype), rng.standard_normal((2, 5, 3)).astype(dtype)
    x[0, 0, 0] = 0

    def make(x, y):
        return [tf.matrix_inverse(x), tf.matrix_solve(x, y), tf.matrix_solve(x, y, adjoint=True), tf.matrix_determinant(x),
                *tf.linalg.slogdet(x)]
    compare(gpu, make, [[x, y]], dtype, known=wide, atol=1e-4 if dtype == "float32" else 1e-12)
    a = tf.placeholder(dtype, [None, 5, 5])
    rows = results(tf.matrix_solve(a, tf.ones([2, 5, 1], dtype)), {a: x})  # a right side that is one number
    np.testing.assert_allclose(x @ rows, np.ones((2, 5, 1)), atol=1e-4)
    inverse, *determinants = tf.matrix_inverse(a), tf.matrix_determinant(a), *tf.linalg.slogdet(a)
    x[1, 2] = 0
    assert [d[1] for d in results(determinants, {a: x})] == [0, 0, -np.inf]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Input is not invertible"):
        results(inverse, {a: x})


def test_factors_that_do_not_exist(gpu):
    """Said on both devices alike, also of a later block."""
    x = tf.placeholder(tf.float32, [None, None])
    lower, solved = tf.cholesky(x), tf.matrix_triangular_solve(x, tf.ones_like(x))
    for n in (3, 33):
        for last, fetch, message in ((-1.0, lower, "Cholesky decomposition was not successful"), (0.0, solved, "not invertible")):
            a = positive(np.random.default_rng(n), np.float32, n, n)
            assert np.isfinite(results(fetch, {x: a})).all()
            a[-1, -1] = last
            for interpret in (0, 1):
                with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                    results(fetch, {x: a}, interpret)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "bfloat16", "complex64"])
def test_gathers(dtype, gpu):
    def make(x, i, pairs):
        return [tf.gather(x, i), tf.gather(x, i, axis=1), tf.gather_nd(x, pairs), tf.gather(x, tf.reshape(i, [-1, 1]))]

    rng, calls = np.random.default_rng(1), []
    for n, many in ((40, 33), (1, 1), (127, 0)):
        pairs = rng.integers(0, n, (many, 2)).astype(np.int64)
        calls.append([filled("gather", 0, dtype, (n, n)), rng.integers(0, n, many).astype(np.int32), pairs])
    compare(gpu, make, calls, dtype)


@pytest.mark.parametrize("make", [
    lambda: tf.random_uniform([1025], seed=3), lambda: tf.random_uniform([33, 5], -2, 7, tf.int32, seed=3),
    lambda: tf.random_uniform([127], maxval=1 << 40, dtype=tf.int64, seed=1), lambda: tf.random_uniform([127], dtype=tf.float64, seed=1),
    lambda: tf.nn.dropout(tf.ones([400]), keep_prob=0.7, seed=2), lambda: tf.random_uniform([127], dtype=tf.float16, seed=1)],
    ids=["uniform", "integers", "long", "double", "dropout", "half"])
def test_random_bits_are_those_of_the_cpu(make, gpu):
    """Equal to the last bit, draw after draw."""
    x = make() * 1
    with tf.Session() as sess, flags.override(interpret=0):
        found = [sess.run(x) for _ in range(3)]
    with driver.installed(EmulatedDriver(0)), tf.Session() as sess, flags.override(interpret=0):
        for a in found:
            np.testing.assert_array_equal(a, sess.run(x))
    assert gpu.counters.launches


@pytest.mark.parametrize("make, dtype", [(tf.random_normal, tf.float32), (tf.truncated_normal, tf.float32),
                                         (tf.truncated_normal, tf.float64), (tf.truncated_normal, tf.bfloat16)])
def test_normal_numbers_are_those_of_the_cpu(make, dtype, gpu):
    """Up to the roundings of logarithm, root and cosine."""
    x = make([1025], seed=5, dtype=dtype)
    found, kernels = launched(gpu, x, {})
    assert kernels == 1
    tolerance = 1e-12 if dtype is tf.float64 else 1e-5 if dtype is tf.float32 else 1e-2
    found, expected = (np.asarray(a, np.float64) for a in (found, results(x, {}, 1)))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance / 10)


def test_drawn_classes_are_those_of_the_cpu(gpu):
    logits, count = tf.placeholder(tf.float32, [None, 7]), tf.placeholder(tf.int32, [])
    drawn = tf.multinomial(logits, count, seed=3)
    feeds = {logits: np.random.default_rng(0).standard_normal((33, 7)), count: 5}
    found, kernels = launched(gpu, drawn, feeds)
    assert kernels and len(np.unique(found)) == 7
    np.testing.assert_array_equal(found, results(drawn, feeds, 1))
    feeds[logits][4, 2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="multinomial needs finite logits"):
        results(drawn, feeds)


@pytest.mark.parametrize("side", ["left", "right"])
def test_places_among_sorted_elements(side, gpu):
    """Rows of none, one, and of sizes around a power of two; NaN is larger than all numbers."""
    rng, calls = np.random.default_rng(1), []
    for n in (0, 1, 7, 8, 9):
        edges = np.sort(rng.integers(0, 6, (3, n)).astype(np.float32), 1)
        edges[1, n - n // 4:] = np.nan
        calls.append([edges, np.tile(np.array([-1, 0, 2, 2.5, 5, 9, np.nan, np.inf], np.float32), (3, 1))])
    compare(gpu, lambda edges, x: tf.searchsorted(edges, x, side=side), calls, "float32")


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_quotients_are_rounded_once(gpu, seed):
    """Whatever a GPU's approximate quotient and inverse are: floor(step / steps) is a number of periods."""
    rng, special = np.random.default_rng(0), np.float32([0.0, -0.0, 1.0, -3.0, np.inf, -np.inf, np.nan, 3e38, 8e37, 1.2e-38, 7.0, 9.0])
    divisors = np.where(special > 1e38, np.inf, special)  # larger ones have no inverse
    whole, by = rng.integers(1, 4000, (2, 1000))
    a = np.concatenate([whole * by, rng.standard_normal(1000) * 10.0 ** rng.integers(-25, 25, 1000), np.repeat(special, 12)]).astype("f")
    b = np.concatenate([by, rng.standard_normal(1000) * 10.0 ** rng.integers(-12, 12, 1000), np.tile(divisors, 12)]).astype("f")
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    with ptx.imprecise(seed):
        found, periods = results([x / y, tf.floor(x / y)], {x: a, y: b})
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, a / b)
    np.testing.assert_array_equal(periods[:1000], whole)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_roots_are_rounded_once(gpu, seed):
    rng = np.random.default_rng(0)
    a = np.concatenate([np.arange(2000.0) ** 2, rng.random(2000) * 10.0 ** rng.integers(-34, 38, 2000),
                        [-0.0, np.inf, np.nan, -1.0, 3.4e38]]).astype("f")
    x = tf.placeholder(tf.float32, [None])
    with ptx.imprecise(seed):
        (found,) = results([tf.sqrt(x)], {x: a})
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, np.sqrt(a))


def test_rests_of_divisions_are_exact(gpu):
    """Quotients of any size: LLVM's own remainder for GPUs is not."""
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        a = (rng.standard_normal(500) * 10.0 ** rng.integers(-30, 30, 500)).astype(dtype)
        b = (rng.standard_normal(500) * 10.0 ** rng.integers(-30, 30, 500)).astype(dtype)
        a[:100], b[:100] = rng.integers(1, 1 << 20, 100), rng.integers(1, 999, 100) / dtype(10)
        x, y = tf.placeholder(a.dtype, [None]), tf.placeholder(a.dtype, [None])
        found = results([tf.truncatemod(x, y), tf.floormod(x, y)], {x: a, y: b})
        np.testing.assert_array_equal(found[0], np.fmod(a, b))
        np.testing.assert_array_equal(found[1], np.mod(a, b))
