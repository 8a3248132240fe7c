"""The tests that every op gets from its registry entry.

A case is one call of an op: arrays and attributes.  Ops give them as `samples`; elementwise and reduction ops get them from
their dtypes and `domain`.  Each case is held against NumPy or SciPy, inferred shapes, the compiled result, and central
differences of first and second order.
"""
from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import warnings
import zlib

import numpy as np
import pytest
import scipy.special as sp

import graphflow as tf
from graphflow import graph, types
from graphflow.flags import flags
from graphflow.ops.opdef import REGISTRY, UNSET, constant

for _module in pkgutil.iter_modules(tf.ops.__path__, "graphflow.ops."):
    importlib.import_module(_module.name)
for _late in ("ctc_ops", "spectral", "special_math", "sets", "quantization", "image_boxes", "morphology"):  # loaded late by the package
    importlib.import_module(f"graphflow.{_late}")

# Ops without a case here, and why.
EXEMPT_FAMILIES = {
    "state": "needs a Session's variables: tests of variables",
    "random": "its values are compared with distributions: tests of random ops",
    "control": "has no value of its own, or bodies: tests of control flow",
    "input": "a value from outside",
    "constant": "no input",
}
EXEMPT = {
    "Assert": "an effect", "Print": "an effect", "PrintV2": "an effect",
    "CheckNumerics": "raises where numbers are not finite", "AssertFinite": "raises where numbers are not finite",
    "RandomShuffle": "draws numbers on the host", "RandomGamma": "draws numbers on the host",
    "RandomPoissonV2": "draws numbers on the host", "SelectNames": "strings",
    "CheckBelow": "an effect: raises when a counter has reached its limit",
    "AssertInitialized": "an effect: raises on variables without a value",
    "PyFunc": "calls the user's Python: tests/test_py_func.py", "PyFuncStateless": "calls the user's Python: tests/test_py_func.py",
    "PackSparse": "an element of a queue: tests/test_queues.py", "UnpackSparse": "an element of a queue: tests/test_queues.py",
    "NotSaved": "stands for Python objects: tests/test_meta_graph.py",
    "TableBuckets": "hashes: tests/test_lookup.py", "WriteFile": "an effect: tests/test_readers.py",
    "ReadFile": "what the disk holds: tests/test_readers.py", "MatchingFiles": "what the disk holds: tests/test_readers.py",
    "IdentityN": "only carries a custom gradient: tests/test_py_func.py", "CandidateSampler": "draws numbers on the host",
    "FractionalSequence": "draws numbers on the host",
    "SampleDistortedBoundingBoxV2": "draws numbers on the host: tests/test_image.py",
}
EXEMPT |= dict.fromkeys(("Cholesky", "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "MatrixSolveLs", "MatrixDeterminant",
                         "LogMatrixDeterminant",
                         "SelfAdjointEigV2", "Svd", "Qr", "MatrixExponential", "MatrixSquareRoot", "Lu", "TridiagonalSolve",
                         "MatrixLogarithm"),
                        "wants matrices of one kind, and directions that keep it: tests/test_linalg.py")
EXEMPT |= dict.fromkeys(("ScalarSummary", "HistogramSummary", "ImageSummary", "AudioSummaryV2", "TensorSummaryV2", "MergeSummary"),
                        "gives bytes: tests/test_summary.py")
EXEMPT |= dict.fromkeys(("Igamma", "Igammac", "IgammaGradA", "Betainc", "Zeta", "Polygamma"),
                        "has no slope in some arguments: tests/test_special_math.py")
EXEMPT |= dict.fromkeys(("ParseExample", "MergeSparseFeature", "ParseSequenceExample", "SerializeTensor", "ParseTensor",
                         "SerializeSparse", "SerializeManySparse", "DeserializeManySparse"), "records: tests/test_parsing.py")
EXEMPT |= dict.fromkeys(("DecodeJpeg", "DecodeAndCropJpeg", "DecodePng", "DecodeBmp", "DecodeGif", "DecodeImage", "ExtractJpegShape",
                         "EncodePng", "EncodeJpeg"), "image files: tests/test_image_files.py")
EXEMPT |= {"ReadCheckpoint": "files: tests/test_saver.py", "RemapRows": "files: tests/test_warm_start.py"}
EXEMPT["LateGradient"] = "made by gradients of ops whose ranks are not known: tests/test_array.py"
EXEMPT["StringFormat"] = "a scalar: tests/test_strings.py"
# Ops whose gradient is None everywhere, as in TF.
NO_SLOPE = {"FloorDiv", "TruncateDiv", "StopGradient", "ZerosLike", "OnesLike", "Multinomial"}
FIRST_ORDER_ONLY = {"Digamma": "the derivative of trigamma is not there",
                    "Attention": "its gradient is a kernel; people write a softmax, which has all derivatives"}

DTYPES = (types.float32, types.float64, types.int32, types.int64, types.uint8, types.bool_, types.complex64, types.complex128,
          types.float16, types.bfloat16)
RTOL = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 4e-14, "complex64": 4e-6, "complex128": 1e-13}


# ---------------------------------------------------------------- cases


class Bf16(np.ndarray):
    """float32 numbers that stand for a bfloat16 tensor (a Session takes and returns those)."""


def random_array(rng, dtype, shape, domain):
    low, high = domain
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        low = max(low, 0) if dtype.kind == "u" else low
        return rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, shape).astype(dtype.np)
    if dtype.kind == "c":
        return (rng.uniform(low, high, shape) + 1j * rng.uniform(low, high, shape)).astype(dtype.np)
    values = rng.uniform(low, high, shape)
    return np.asarray(types.bf16_decode(types.bf16_encode(values))).view(Bf16) if dtype is types.bfloat16 else values.astype(dtype.np)


def dtype_of(array):
    return types.bfloat16 if isinstance(array, Bf16) else types.as_dtype(np.asarray(array).dtype)


_SHAPES = {1: [((2, 3),), ((),)], 2: [((2, 3), (3,)), ((2, 1), (1, 3)), ((), (4,))], 3: [((2, 3), (3,), (2, 1))]}
_REDUCED = [((2, 3, 4), {"axis": (1,)}), ((2, 3, 4), {"axis": (0, 2), "keepdims": True}), ((3, 5), {"axis": None}), ((), {"axis": None}),
            ((4,), {"axis": (-1,)})]


def has_automatic_cases(op):
    return op.family in ("elementwise", "reduction") and not op.variadic and not op.input_dtypes and UNSET not in op.defaults.values()


def cases(op):
    """All calls of an op: a list of (args, attrs)."""
    rng = np.random.default_rng(zlib.crc32(op.type.encode()))
    found = [tuple(s(rng)) if callable(s) else s for s in op.samples]
    if has_automatic_cases(op):
        shapes = [((s,), attrs) for s, attrs in _REDUCED] if op.family == "reduction" else [(s, {}) for s in _SHAPES[len(op.params)]]
        for i, dtype in enumerate(d for d in DTYPES if d in op.dtypes):
            for sizes, attrs in shapes if dtype is types.float32 else [shapes[i % len(shapes)]]:
                found.append((tuple(random_array(rng, dtype, s, op.domain) for s in sizes), attrs))
    return found


COVERED = [op for op in REGISTRY.values() if op.samples or has_automatic_cases(op)]
COVERED = [op for op in COVERED if op.type not in EXEMPT and op.family not in EXEMPT_FAMILIES]
every_op = pytest.mark.parametrize("op", COVERED, ids=lambda op: op.type)


def call(op, args, attrs, shapes=None):
    """Builds one call: (feeds, outputs).  `shapes(array)` is the placeholders' static shape; "constant" feeds nothing."""
    feeds, inputs = {}, []
    for i, a in enumerate(args):
        if op.param_name(i) in op.static or shapes == "constant" or dtype_of(a).kind == "s":
            t = constant(np.asarray(a), dtype_of(a))
        else:
            t = tf.placeholder(dtype_of(a), np.shape(a) if shapes is None else shapes(a))
            feeds[t] = np.asarray(a)
        inputs.append(t)
    found = op(*inputs, **attrs)
    return feeds, list(found) if isinstance(found, (list, tuple)) else [found]


def run(fetches, feeds, interpret=1):
    with flags.override(interpret=interpret), tf.Session() as sess:
        return sess.run(fetches, feeds)


def numpy_dtype(dtype):
    """The dtype of a fetched array."""
    return np.dtype(np.float32) if dtype is types.bfloat16 else dtype.np


def assert_same(actual, expected, dtype, tolerance=1.0, atol=0.0, note=""):
    """Equal shapes, and equal numbers up to the dtype's rounding times `tolerance`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, note
    if dtype.kind not in "fc":
        assert np.array_equal(actual, expected), f"{note}: {actual} != {expected}"
        return
    rtol = RTOL[dtype.name] * tolerance
    wide = np.complex128 if dtype.kind == "c" else np.float64
    np.testing.assert_allclose(actual.astype(wide), expected.astype(wide), rtol=rtol, atol=max(rtol, atol), err_msg=note)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def test_every_op_is_covered_or_exempt():
    missing = [op.type for op in REGISTRY.values() if op not in COVERED and op.type not in EXEMPT and op.family not in EXEMPT_FAMILIES
               and op._performs is None]  # ops on resources have no value of their own: tests of queues, tables, iterators
    assert not missing, f"give these ops `samples`, or a reason in EXEMPT: {missing}"


# ---------------------------------------------------------------- inference


@every_op
def test_inference(op):
    """Dtype and shape announced from known, partly known and unknown shapes are those of the result."""
    for args, attrs in cases(op):
        feeds, outputs = call(op, args, attrs)
        results = run(outputs, feeds)
        variants = [outputs, call(op, args, attrs, lambda a: [None] * np.ndim(a))[1]]
        if op.family != "host":
            variants.append(call(op, args, attrs, "constant")[1])
        try:
            variants.append(call(op, args, attrs, lambda a: None)[1])
        except ValueError as e:
            assert "rank" in str(e)
        for found in variants:
            for t, r in zip(found, results, strict=True):
                assert np.asarray(r).dtype == numpy_dtype(t.dtype), f"{t} gave {np.asarray(r).dtype}"
                assert t.shape.is_compatible_with(np.shape(r)), f"{t} gave shape {np.shape(r)}"
                if t.known is not None and not any(isinstance(v, types.Dim) for v in t.known.flat):
                    assert np.array_equal(t.known.astype(t.dtype.np), r), f"followed value of {t}"
        if op.family != "host":
            assert all(t.shape.is_fully_defined() for t in outputs), f"{op.type}{attrs}: {outputs} of known shapes"


# ---------------------------------------------------------------- values


def _cumulative(fn, neutral):
    def run(x, axis, exclusive, reverse):
        x = np.moveaxis(x, axis, 0)
        out = np.empty_like(x)
        order = range(len(x) - 1, -1, -1) if reverse else range(len(x))
        total = np.full(x.shape[1:], neutral, x.dtype)
        for i in order:
            before, total = total, fn(total, x[i])
            out[i] = before if exclusive else total
        return np.moveaxis(out, 0, axis)
    return run


def _sum_to(dy, like):
    while dy.ndim > like.ndim:
        dy = dy.sum(0)
    for i, n in enumerate(like.shape):
        dy = dy.sum(i, keepdims=True) if n == 1 else dy
    return dy


def _first_nan_or(fn):
    return lambda x, axis=0, output_type=None: fn(x, axis=axis)


def _int_mean(x, axis=None, keepdims=False):
    mean = np.mean(x.astype(np.float32) if x.dtype == np.float16 else x, axis=axis, keepdims=keepdims)
    return np.trunc(mean) if x.dtype.kind in "iu" else mean


# An independent meaning of the ops whose reference is not one NumPy function.
INDEPENDENT = {
    "Erf": sp.erf, "Erfc": sp.erfc, "Erfinv": sp.erfinv, "Ndtri": sp.ndtri, "Lgamma": sp.gammaln, "Digamma": sp.digamma,
    "Trigamma": lambda x: sp.polygamma(1, x), "Sigmoid": sp.expit, "Softplus": lambda x: np.logaddexp(x, np.zeros((), x.dtype)),
    "FloorDiv": lambda x, y: x // y, "FloorMod": lambda x, y: x - y * np.floor(np.divide(x, y)),
    "TruncateDiv": lambda x, y: np.trunc(x.astype(np.float64) / y), "TruncateMod": lambda x, y: x - y * np.trunc(x.astype(np.float64) / y),
    "Rsqrt": lambda x: x ** -0.5, "SquaredDifference": lambda x, y: np.abs(x - y) ** 2,
    "Relu": lambda x: x * (x > 0), "Relu6": lambda x: np.where(x > 6, 6, x * (x > 0)), "Elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "Selu": lambda x: np.where(x > 0, 1.0507009873554805 * x, 1.7580993408473766 * (np.exp(x) - 1)),
    "LeakyRelu": lambda x: np.maximum(x, 0.2 * x),
    "Softsign": lambda x: x / (1 + np.abs(x)), "Select": lambda c, x, y: np.where(c, x, y),
    "ClipByValue": lambda x, lo, hi: np.maximum(lo, np.minimum(x, hi)),
    "AddN": lambda *xs: np.sum(xs, axis=0), "Xlogy": sp.xlogy, "Xdivy": lambda x, y: x / y, "DivNoNan": lambda x, y: x / y,
    "LeftShift": lambda x, y: x * 2 ** y.astype(np.int64), "RightShift": lambda x, y: x // 2 ** y.astype(np.int64),
    "Mean": _int_mean, "LogSumExp": lambda x, axis=None, keepdims=False: sp.logsumexp(x, axis=axis, keepdims=keepdims),
    "ReduceVariance": lambda x, axis=None, keepdims=False: np.var(x, axis=axis, keepdims=keepdims),
    "EuclideanNorm": lambda x, axis=None, keepdims=False: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "CountNonzero": lambda x, axis=None, keepdims=False, dtype=None: np.count_nonzero(x, axis=axis, keepdims=keepdims),
    "ArgMax": _first_nan_or(np.argmax), "ArgMin": _first_nan_or(np.argmin),
    "Cumsum": _cumulative(np.add, 0), "Cumprod": _cumulative(np.multiply, 1), "Cummax": _cumulative(np.maximum, -np.inf),
    "SumToShape": _sum_to, "BroadcastLike": lambda x, like: x + np.zeros_like(like), "ZerosLike": lambda x, dtype=None: x * 0,
    "OnesLike": lambda x, dtype=None: x * 0 + 1,
    "AxisSize": lambda x, axis, dtype: np.prod([x.shape[a] for a in axis]), "AxisIndex": lambda x, axis, dtype: np.indices(x.shape)[axis],
    "Complex": lambda re, im: re + im * np.complex64(1j),
}


@every_op
def test_reference(op):
    """The reference interpreter gives the independent value, and leaves its inputs alone."""
    meaning = INDEPENDENT.get(op.type)
    for args, attrs in cases(op):
        before = [np.array(a, copy=True) for a in args]
        feeds, outputs = call(op, args, attrs)
        results = run(outputs, feeds)
        assert all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc") for a, b in zip(args, before))
        if meaning is not None:
            with np.errstate(all="ignore"):
                expected = meaning(*[np.asarray(a) for a in args], **attrs)
            t = outputs[0]
            assert_same(results[0], np.asarray(expected).astype(numpy_dtype(t.dtype)), t.dtype, 4 * op.tolerance,
                        note=f"{op.type}{attrs} of {args}")


@every_op
def test_special_values(op):
    for dtype in (d for d in (types.float32, types.float64) if d in op.dtypes):
        for point, expected in op.special.items():
            args = [np.array(v, dtype.np) for v in (point if isinstance(point, tuple) else (point,))]
            feeds, outputs = call(op, args, {})
            result, = run(outputs, feeds)
            assert np.array_equal(result, np.asarray(expected, result.dtype),
                                  equal_nan=result.dtype.kind == "f"), f"{op.type}{point} = {result}, not {expected}"




@every_op
def test_compiled(op):
    """Generated kernels give the reference's result, with known and with unknown sizes by turns."""
    feeds, outputs, notes = {}, [], []
    for i, (args, attrs) in enumerate(cases(op)):
        more, found = call(op, args, attrs, (lambda a: [None] * np.ndim(a)) if i % 2 else None)
        feeds |= more
        outputs += found
        notes += [f"{op.type}{attrs} of {args}"] * len(found)
    expected, actual = run(outputs, feeds), run(outputs, feeds, interpret=0)
    for t, e, a, note in zip(outputs, expected, actual, notes, strict=True):
        assert np.asarray(a).dtype == numpy_dtype(t.dtype)
        assert_same(a, e, t.dtype, 4 * op.tolerance, note=note)


@pytest.mark.parametrize("op", [op for op in COVERED if op.special], ids=lambda op: op.type)
def test_compiled_special_values(op):
    outputs, feeds, wanted = [], {}, []
    for dtype in (d for d in (types.float32, types.float64) if d in op.dtypes):
        for point, expected in op.special.items():
            more, found = call(op, [np.array(v, dtype.np) for v in (point if isinstance(point, tuple) else (point,))], {})
            feeds |= more
            outputs += found
            wanted.append((dtype, point, expected))
    for (dtype, point, expected), result in zip(wanted, run(outputs, feeds, interpret=0)):
        close = np.allclose(result, np.asarray(expected, np.asarray(result).dtype), rtol=RTOL[dtype.name], atol=RTOL[dtype.name] / 10,
                            equal_nan=True)
        assert close, f"{op.type}{point} = {result}, not {expected} ({dtype})"


# ---------------------------------------------------------------- gradients


def _doubled(a):
    a = np.asarray(a)
    return a.astype({"f": np.float64, "c": np.complex128}.get(a.dtype.kind, a.dtype))


def _inner(a, b):
    """Re <a, b>, in which a complex gradient is dL/d(re) + i dL/d(im)."""
    return float(np.sum(np.real(np.conj(a) * b)))


def _projected(outputs, rng):
    """The sum of all differentiable outputs under random weights: a scalar, float64."""
    terms = []
    for t in outputs:
        if not t.shape.is_fully_defined():  # a size that depends on data
            terms.append(tf.reduce_sum(tf.sin(t)))
            continue
        w = rng.normal(size=t.shape.as_list()) + (1j * rng.normal(size=t.shape.as_list()) if t.dtype.is_complex else 0)
        terms.append(tf.reduce_sum(tf.real(t * np.conj(w))))
    return tf.add_n(terms)


def _quiet_gradients(y, xs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [None if g is None else graph.OPERATORS["to_dense"](g) for g in tf.gradients(y, xs)]


def _check_slope(sess, y, grads, xs, feeds, rng, note):
    """Central difference of y along a random direction against the gradients' projection on it."""
    directions = {x: rng.normal(size=np.shape(feeds[x])) + (1j * rng.normal(size=np.shape(feeds[x])) if x.dtype.is_complex else 0)
                  for x in xs}
    step = 1e-6
    up, down = (sess.run(y, {**feeds, **{x: feeds[x] + s * step * d for x, d in directions.items()}}) for s in (1, -1))
    present = [(x, g) for x, g in zip(xs, grads) if g is not None]
    found = sess.run([g for _, g in present], feeds)
    for (x, g), value in zip(present, found):
        assert np.shape(value) == np.shape(feeds[x]), f"{note}: gradient of shape {np.shape(value)}"
        assert g.dtype is x.dtype, note
        assert g.shape.is_compatible_with(np.shape(value)), note
    slope = sum(_inner(value, directions[x]) for (x, _), value in zip(present, found))
    expected = (up - down) / (2 * step)
    size = max(1.0, abs(up), max((np.abs(v).max() for v in found if np.size(v)), default=0))
    assert abs(slope - expected) < 2e-7 * size + 1e-5 * abs(expected), f"{note}: slope {slope}, central difference {expected}"


@every_op
@pytest.mark.filterwarnings("ignore:feed_dict")  # the gradient of x + y reads neither
def test_gradient(op):
    """First and second derivatives against central differences, in float64."""
    if op.no_gradient or op.effect:
        assert op.no_gradient is None or op._grad is None or op.type in NO_SLOPE
        return
    rng = np.random.default_rng(7)
    checked = set()
    for args, attrs in cases(op):
        doubled = [_doubled(a) for a in args]
        kinds = tuple((a.dtype.kind, a.shape) for a in doubled), str(attrs)
        if kinds in checked or not any(a.dtype.kind in "fc" for a in doubled):
            continue
        checked.add(kinds)
        try:
            feeds, outputs = call(op, doubled, attrs)
        except TypeError:  # a call whose dtypes cannot be widened
            continue
        outputs = [t for t in outputs if t.dtype in (types.float64, types.complex128)]
        shape_only = {i for i in range(len(args)) if op.param_name(i) in op.shape_only}
        xs = [t for i, t in enumerate(outputs and outputs[0].op.inputs) if t in feeds and t.dtype.kind in "fc" and i not in shape_only]
        if not outputs or not xs:
            continue
        note = f"{op.type}{attrs} of shapes {[a.shape for a in args]}"
        y = _projected(outputs, rng)
        grads = _quiet_gradients(y, xs)
        if op.type in NO_SLOPE:
            assert all(g is None for g in grads), note
            continue
        assert any(g is not None for g in grads), f"{note}: no gradient"
        with flags.override(interpret=1), tf.Session() as sess:
            _check_slope(sess, y, grads, xs, feeds, rng, note)
            if op.type in FIRST_ORDER_ONLY:
                continue
            z = _projected([g for g in grads if g is not None], rng)
            _check_slope(sess, z, _quiet_gradients(z, xs), xs, feeds, rng, note + ", second order")


@every_op
@pytest.mark.filterwarnings("ignore:feed_dict")
def test_compiled_gradient(op):
    """The gradient graph compiled gives what it gives interpreted."""
    if op.no_gradient or op.effect or op.type in NO_SLOPE:
        return
    rng = np.random.default_rng(8)
    feeds, fetches, seen = {}, [], set()
    for args, attrs in cases(op):
        if (kinds := (tuple(np.shape(a) for a in args),
                      str(attrs))) in seen or not any(dtype_of(a) in (types.float32, types.float64) for a in args):
            continue
        seen.add(kinds)
        more, outputs = call(op, args, attrs, lambda a: [None] * np.ndim(a) if rng.random() < 0.5 else np.shape(a))
        outputs = [t for t in outputs if t.dtype.kind in "fc" and t.dtype.size > 2]  # 16-bit values are rounded only when stored
        xs = [t for t in outputs[0].op.inputs if t in more and t.dtype.kind in "fc"] if outputs else []
        if xs:
            feeds |= more
            fetches += [g for g in _quiet_gradients([tf.square(t) for t in outputs], xs) if g is not None]
    if fetches:
        for t, e, a in zip(fetches, run(fetches, feeds), run(fetches, feeds, interpret=0), strict=True):
            assert_same(a, e, t.dtype, 16 * op.tolerance, note=f"gradient of {op.type}")
