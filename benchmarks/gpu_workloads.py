"""What gpu.py measures: kernels, training steps and tiny graphs, with the target that each is held to.

Kernels are one function of the words in gpu_words.py. Training steps are the networks of models.py and recurrent.py at the sizes of a
GPU, with the programs that the CPU tables use. Imported by every side's process, so it knows NumPy and no library.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import models, recurrent
from .chain import math_ops
from .gpu_words import DTYPES, JaxWords, NumpyWords, TensorFlowWords, TorchWords
from .workload import Measured, Workload

SIDES = {"graphflow": "GraphFlow", "torch": "PyTorch", "torchcompile": "torch.compile", "jax": "JAX", "cupy": "CuPy"}
PEERS = tuple(s for s in SIDES if s != "graphflow")
FULL = 1 << 26  # float32 elements of the arrays of kernels that move memory: 256 MiB, five times the L2 of an H200


class Target(NamedTuple):
    """A sentence, and by how much a measurement reaches it: 1 and more is reached, None cannot be said."""

    text: str
    reached: Callable[[Measured], float | None]


def of_copy(share: float) -> Target:
    def reached(m: Measured) -> float | None:
        ratio = m.ratio("copy")
        return None if ratio is None else ratio / share
    return Target(f"{share:.0%} of copy", reached)


def best(m: Measured, sides: Sequence[str] = PEERS) -> tuple[str, float] | None:
    """The fastest of these sides, and its time by GraphFlow's."""
    there = [(s, r) for s in sides if (r := m.ratio(s)) is not None]
    return min(there, key=lambda x: x[1]) if there else None


def times(factor: float, sides: Sequence[str], text: str) -> Target:
    """At least `factor` times as fast as the best of the sides."""
    def reached(m: Measured) -> float | None:
        found = best(m, sides)
        return None if found is None else found[1] / factor
    return Target(text, reached)


def at_most(seconds: float, fact: str, text: str) -> Target:
    def reached(m: Measured) -> float | None:
        value = m.facts.get("graphflow", {}).get(fact)
        return None if not value else seconds / value
    return Target(text, reached)


TORCH = times(0.97, ("torch", "torchcompile"), "97% of PyTorch")
STEP = times(1.0, ("torchcompile", "jax"), "best of torch.compile, JAX")
TINY = [times(2.0, PEERS, "twice the best peer"), at_most(10e-6, "host", "10 us of host")]


class GpuWorkload(Workload):
    """A workload with a precision.

    kind: "kernel" (time on the device), "step" or "tiny" (time of a call that waits for its result, on the host).
    resident: what GraphFlow is fed is put on the device once, by the stand-in of gpu_worker.py; else at every call.
    digest: (inputs, results) -> what is compared, where results themselves cannot be (random ones).
    """

    def __init__(self, name: str, precision: str, group: str, kind: str = "kernel", targets: Sequence[Target] = (), resident: bool = True,
                 digest: Callable[..., Any] | None = None, **options: Any):
        self.precision, self.group, self.kind, self.targets, self.title = precision, group, kind, list(targets), name
        self.resident, self.digest = resident, digest
        super().__init__(f"{name}, {precision}", **options)


WORKLOADS: dict[str, GpuWorkload] = {}
TOLERANCE = {"float32": (2e-4, 2e-4), "tf32": (2e-2, 2e-2), "bfloat16": (3e-2, 3e-2), "float16": (5e-3, 5e-3)}


# ---------------------------------------------------------------- data


def rounded(a: np.ndarray, precision: str) -> np.ndarray:
    """float32 with values that the precision has, so that all sides and the reference see the same numbers."""
    if precision == "float16":
        return a.astype(np.float16).astype(np.float32)
    if precision == "bfloat16":
        bits = a.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
    return a.astype(np.float32)


def normal(seed: int, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
    """Random numbers that repeat after a million: large arrays are there soon."""
    n = int(np.prod(shape))
    block = (np.random.RandomState(seed).normal(0, scale, min(n, (1 << 20) - 3))).astype(np.float32)
    return np.resize(block, n).reshape(shape)


def integers(seed: int, n: int, below: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, below, n).astype(np.int32)


def wide(precision: str, rows: int = 1 << 16) -> tuple[int, int]:
    """A matrix of 256 MiB in this precision."""
    return rows, (FULL if DTYPES[precision] == "float32" else 2 * FULL) // rows


# ---------------------------------------------------------------- kernels


def kernel(title: str, precision: str, group: str, f: Callable[..., Any], full: Callable[[], list[Any]], tiny: Callable[[], list[Any]],
           targets: Sequence[Target], work: Callable[..., tuple[float, float]], compiled: bool = True, cupy: bool = True,
           filters: Sequence[int] = (), **options: Any) -> GpuWorkload:
    """`f(m, *inputs)`; `work` says (floating-point operations, elements read and written) of the inputs.  Inputs are small NumPy arrays,
    `tiny()`, for the check against NumPy, and then `full()`."""
    options.setdefault("tolerance", TOLERANCE[precision])
    w = GpuWorkload(title, precision, group, targets=targets, **options)
    dtype = DTYPES[precision]
    w.inputs(lambda quick: [a if a.dtype.kind == "i" else rounded(a, precision) for a in (tiny if quick else full)()])

    @w.reference
    def _(*arrays: np.ndarray) -> Any:
        return f(NumpyWords(np, "float64"), *[a if a.dtype.kind == "i" else a.astype(np.float64) for a in arrays])

    def amount(*arrays: np.ndarray) -> tuple[float, float]:
        flops, elements = work(*arrays)
        return flops, elements * (4 if dtype == "float32" else 2)
    w.amount = amount

    def placed(m: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
        return [m.place(a, i in filters) for i, a in enumerate(arrays)]

    def graphflow(tf: Any, *arrays: np.ndarray) -> Any:
        m = TensorFlowWords(tf, dtype)
        p = placed(m, arrays)
        run = tf.Session().make_callable(f(m, *p), p)
        return lambda: run(*arrays)

    def jax(jax: Any, *arrays: np.ndarray) -> Any:
        m = JaxWords(jax, dtype)
        key, p = jax.random.key(1), placed(m, arrays)

        @jax.jit
        def run(key: Any, *p: Any) -> Any:
            m.key = key  # an argument: random numbers of a constant one would be computed by the compiler
            return f(m, *p)
        return lambda: run(key, *p)

    def eager(words: Any) -> Callable[..., Any]:
        def side(library: Any, *arrays: np.ndarray) -> Any:
            m = words(library, dtype)
            p = placed(m, arrays)
            return lambda: f(m, *p)
        return side

    def torchcompile(torch: Any, *arrays: np.ndarray) -> Any:
        m = TorchWords(torch, dtype)
        run, p = torch.compile(lambda *p: f(m, *p)), placed(m, arrays)
        return lambda: run(*p)

    w.functions.update(graphflow=graphflow, jax=jax, torch=eager(TorchWords))
    if compiled:
        w.functions["torchcompile"] = torchcompile
    if cupy and precision in ("float32", "float16"):
        w.functions["cupy"] = eager(NumpyWords)
    return w


def elementwise(title: str, precision: str, operands: int, f: Callable[..., Any], **options: Any) -> None:
    shape = wide(precision)
    kernel(title, precision, "elementwise", f, lambda: [normal(i, shape) for i in range(operands)],
           lambda: [normal(i, (67, 129)) for i in range(operands)], [of_copy(0.9)], lambda x, *rest: (0, (operands + 1) * x.size),
           **options)


def dropped(inputs: Sequence[np.ndarray], results: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The share of zeros, and the largest error of the others."""
    x, y = inputs[0], results[0]
    return [np.mean(y == 0), np.max(np.abs(np.where(y == 0, 0, y - x / 0.9)), initial=0.0)]


for p in ("float32", "bfloat16"):
    elementwise("x + y", p, 2, lambda m, x, y: x + y)
    elementwise("a*b + c", p, 3, lambda m, a, b, c: a * b + c)
    elementwise("gelu (erf)", p, 1, lambda m, x: m.gelu(x), cupy=p == "float32")
    elementwise("19 ops with exp, tanh, log1p, where", p, 1, lambda m, x: math_ops(m, x))
    elementwise("dropout 0.1", p, 1, lambda m, x: m.dropout(x, 0.1), digest=dropped, tolerance=(0.05, 0.015))
elementwise("x + y", "float16", 2, lambda m, x, y: x + y)
kernel("bias and relu", "float32", "elementwise", lambda m, x, b: m.where(x + b > 0, x + b, 0 * x),
       lambda: [normal(0, wide("float32")), normal(1, (1024,))], lambda: [normal(0, (67, 128)), normal(1, (128,))], [of_copy(0.9)],
       lambda x, b: (0, 2 * x.size))
kernel("cast to float16", "float32", "elementwise", lambda m, x: m.as_float16(x), lambda: [normal(0, wide("float32"))],
       lambda: [normal(0, (67, 128))], [of_copy(0.9)], lambda x: (0, 1.5 * x.size), tolerance=(1e-3, 1e-3))


def rows(title: str, precision: str, group: str, f: Callable[..., Any], share: float, written: int, across: int = 1024,
         more: int = 0, **options: Any) -> None:
    """A kernel of a matrix with `across` columns, of which `written` copies are written; `more` vectors of a row's length are read."""
    shape = wide(precision, (FULL if DTYPES[precision] == "float32" else 2 * FULL) // across)

    tiny = (33, 256) if across == 1024 else (2, across)

    def inputs(shape: tuple[int, int]) -> list[np.ndarray]:
        return [normal(0, shape), *[normal(i + 1, shape[1:], 0.1) + 1 for i in range(more)]]
    kernel(f"{title} of {shape[0]}x{across}", precision, group, f, lambda: inputs(shape), lambda: inputs(tiny), [of_copy(share)],
           lambda x, *rest: (0, (1 + written) * x.size), **options)


for p in ("float32", "bfloat16"):
    for across in (1024, 32768):
        rows("softmax", p, "softmax", lambda m, x: m.softmax(x), 0.85, 1, across)
    rows("layer norm", p, "layer norm", lambda m, *a: m.norm(*a), 0.85, 1, more=2)
    rows("sum of all", p, "reductions", lambda m, x: m.sum(x), 0.85, 0, tolerance=(2e-2, 2e-1) if p == "bfloat16" else (1e-3, 2e-1))
    rows("sum of rows", p, "reductions", lambda m, x: m.sum(x, 1), 0.85, 0, tolerance=(2e-2, 2e-1) if p == "bfloat16" else (1e-3, 1e-3))
    rows("sum of columns", p, "reductions", lambda m, x: m.sum(x, 0), 0.85, 0, tolerance=(3e-2, 3.0) if p == "bfloat16" else (1e-3, 3e-2))
    rows("maximum of rows", p, "reductions", lambda m, x: m.max(x, 1), 0.85, 0)
rows("layer norm", "float32", "layer norm", lambda m, *a: m.norm(*a), 0.85, 1, 8192, more=2)
rows("moments of columns", "float32", "reductions", lambda m, x: m.moments(x, 0), 0.85, 0)
rows("argmax of rows", "float32", "reductions", lambda m, x: m.argmax(x), 0.85, 0)
rows("cumulative sum of rows", "float32", "scans", lambda m, x: m.cumsum(x), 0.85, 1, tolerance=(1e-3, 1e-3))


def permutation(title: str, precision: str, full: tuple[int, ...], tiny: tuple[int, ...], order: tuple[int, ...]) -> None:
    kernel(f"{title} {'x'.join(map(str, full))}", precision, "transposes", lambda m, x: m.permuted(x, order), lambda: [normal(0, full)],
           lambda: [normal(0, tiny)], [of_copy(0.8)], lambda x: (0, 2 * x.size))


for p, n in (("float32", 1), ("bfloat16", 2)):
    permutation("transpose", p, (8192 * n, 8192), (65, 96), (1, 0))
    permutation("transpose each of", p, (64 * n, 1024, 1024), (3, 33, 64), (0, 2, 1))
    permutation("heads to the front", p, (64 * n, 1024, 16, 64), (2, 9, 4, 16), (0, 2, 1, 3))
    permutation("NHWC to NCHW", p, (64 * n, 128, 128, 64), (2, 5, 7, 16), (0, 3, 1, 2))



def targets(rows: Any) -> int:
    """Onto how many rows these are added."""
    return 1 << 17 if rows.shape[0] > 1000 else 29


for p, n in (("float32", 1), ("bfloat16", 2)):
    for across in (64, 1024):
        count = n * FULL // across
        kernel(f"gather: {count} rows of {across} from a table of {count}", p, "gather and scatter", lambda m, t, i: m.embed(t, i),
               lambda count=count, across=across: [normal(0, (count, across)), integers(1, count, count)],
               lambda: [normal(0, (37, 64)), integers(1, 51, 37)], [], lambda t, i: (0, 2 * i.size * t.shape[1]))
    kernel(f"scatter-add: {n << 20} rows of 64 onto {1 << 17}", p, "gather and scatter",
           lambda m, rows, ids: m.summed_by(rows, ids, targets(rows)),
           lambda n=n: [normal(0, (n << 20, 64), 0.1), integers(1, n << 20, 1 << 17)],
           lambda: [normal(0, (51, 64), 0.1), integers(1, 51, 29)], [], lambda rows, ids: (0, rows.size + targets(rows) * rows.shape[1]))


# ---------------------------------------------------------------- products


def product(title: str, precision: str, f: Callable[..., Any], full: Sequence[Sequence[int]], tiny: Sequence[Sequence[int]],
            compiled: bool = False) -> None:
    """Of inputs with these shapes; the second is scaled so that results are about 1."""
    def inputs(shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
        return [normal(i, s, s[-2] ** -0.5 if i == 1 else 1.0) for i, s in enumerate(shapes)]
    kernel(title, precision, "products", f, lambda: inputs(full), lambda: inputs(tiny), [TORCH],
           lambda a, b, *rest: (2.0 * a.size * b.shape[-1], 0), compiled=compiled)


for p in ("float32", "tf32", "bfloat16"):
    for n in (1024, 2048, 4096, 8192):
        product(f"product of {n}x{n}", p, lambda m, a, b: m.matmul(a, b), [(n, n)] * 2, [(48, 40), (40, 56)])
for p in ("tf32", "bfloat16"):
    product("gelu(x W + b), 8192x4096x4096", p, lambda m, x, w, b: m.gelu(m.matmul(x, w) + b), [(8192, 4096), (4096, 4096), (4096,)],
            [(48, 40), (40, 56), (56,)], compiled=True)
    product("256 products of 512x64x512", p, lambda m, a, b: m.matmul(a, b), [(256, 512, 64), (256, 64, 512)], [(3, 24, 16), (3, 16, 24)])


# ---------------------------------------------------------------- convolutions

# Layers of ResNet-50: filter, stride, channels in and out, size of the image.
LAYERS = ((7, 2, 3, 64, 224), (1, 1, 64, 64, 56), (3, 1, 64, 64, 56), (1, 1, 64, 256, 56), (3, 2, 128, 128, 56), (3, 1, 128, 128, 28),
          (1, 2, 256, 512, 56), (3, 1, 256, 256, 14), (1, 1, 1024, 256, 14), (3, 1, 512, 512, 7), (1, 1, 512, 2048, 7))
BATCH = 64


def conv_inputs(k: int, stride: int, a: int, b: int, size: int, batch: int, gradient: bool) -> list[np.ndarray]:
    out = -(-size // stride)
    return [normal(0, (batch, size, size, a)), normal(1, (k, k, a, b), (k * k * a) ** -0.5),
            *[normal(2, (batch, out, out, b), 1 / out) for _ in range(gradient)]]


def convolution(precision: str, layer: tuple[int, ...], gradient: bool) -> None:
    k, stride, a, b, size = layer
    few, tiny = (min(a, 8), min(b, 16)), 9 if size % 2 else 8

    def flops(x: np.ndarray, f: np.ndarray, *rest: np.ndarray) -> tuple[float, float]:
        return 2.0 * len(x) * (-(-x.shape[1] // stride)) ** 2 * f.size * (1 + gradient), 0

    def f(m: Any, *inputs: Any) -> Any:
        return m.conv_gradients(*inputs, stride) if gradient else m.conv(*inputs, stride)
    kernel(f"{'gradients of ' * gradient}conv {k}x{k}/{stride} {a}>{b} at {size}x{size}, batch {BATCH}", precision, "convolutions", f,
           lambda: conv_inputs(*layer, BATCH, gradient), lambda: conv_inputs(k, stride, *few, tiny, 2, gradient), [TORCH],
           flops, compiled=False, cupy=False, filters=(1,),
           tolerance=(5e-2, 5e-2) if precision != "float32" else (1e-3, 1e-3))


for p in ("tf32", "bfloat16"):
    for layer in LAYERS:
        convolution(p, layer, False)
    for layer in LAYERS:
        convolution(p, layer, True)
for layer in (LAYERS[2], LAYERS[5]):
    convolution("float32", layer, False)
    convolution("float32", layer, True)


# ---------------------------------------------------------------- training steps


def training(title: str, precision: str, model: Any, tiny: Any, full: Any, optimizer: str = "adam", rate: float = 1e-3) -> None:
    loose = (5e-2, 5e-3) if precision == "tf32" else (1e-2, 1e-3)
    w = GpuWorkload(f"{title}, {optimizer}", precision, "training steps", "step", [STEP], tolerance=loose)
    models.training(w.name, model, tiny, full, optimizer, rate, into=w)
    w.functions = {s: f for s, f in w.functions.items() if s in SIDES}


def recurrent_training(title: str, precision: str, tiny: recurrent.Net, full: recurrent.Net) -> None:
    w = GpuWorkload(title, precision, "training steps", "step", [STEP], tolerance=(2e-2, 2e-3) if precision == "tf32" else (1e-3, 1e-4))
    w.inputs(lambda quick: (tiny if quick else full).arrays())

    def net(x: np.ndarray) -> recurrent.Net:
        return tiny if x.shape[0] == tiny.steps else full
    w.reference(lambda x, y, *weights: list(recurrent.losses(net(x), x, y, weights, 3)))
    w.amount = lambda x, y, *weights: (3 * net(x).operations(), 0.0)
    for side in ("graphflow", "jax", "torch"):
        def program(library: Any, x: Any, y: Any, *weights: Any, side: str = side) -> Any:
            step = recurrent.STEPS[side](library, net(x), x, y, list(weights))
            return step, {"check": lambda: [step() for _ in range(3)]}
        w.functions[side] = program


sizes, vectors, images, labels = models.sizes, models.vectors, models.images, models.labels
for p in ("float32", "tf32"):
    training("MLP 784-4096-4096-10, batch 1024", p, models.mlp,
             lambda: (sizes(models.mlp, widths=(20, 16, 16, 10)), vectors(8, 20), labels(10, 8)),
             lambda: (sizes(models.mlp, widths=(784, 4096, 4096, 10)), vectors(1024, 784), labels(10, 1024)))
    training("CNN 5x5x32, 5x5x64, 1024, batch 512", p, models.lenet,
             lambda: (sizes(models.lenet, size=16, channels=(4, 8), hidden=16), images(4, 16), labels(10, 4)),
             lambda: (models.lenet, images(512, 28), labels(10, 512)))
training("ResNet-50, 224x224, batch 64", "tf32", models.resnet50,
         lambda: (sizes(models.resnet50, blocks=(1, 1), channels=(4, 8), classes=10), images(4, 32, 3), labels(10, 4)),
         lambda: (models.resnet50, images(64, 224, 3), labels(1000, 64)), "momentum", 0.01)
training("Transformer block, width 1024, 16 heads, batch 16, length 512", "tf32", models.transformer,
         lambda: (sizes(models.transformer, layers=1, width=16, heads=2, inner=32), vectors(2, 6, 16), labels(10, 2, 6)),
         lambda: (sizes(models.transformer, layers=1, width=1024, heads=16, inner=4096), vectors(16, 512, 1024), labels(10, 16, 512)))
recurrent_training("LSTM 512-512, 100 steps, batch 64, adam", "tf32", recurrent.Net("lstm", steps=4, batch=3, features=5, units=6),
                   recurrent.Net("lstm", steps=100, batch=64, features=512, units=512))


# ---------------------------------------------------------------- tiny graphs, fed and fetched at every call


def tiny_graph(title: str, f: Callable[..., Any], arrays: Callable[[], list[np.ndarray]], fed: int, compiled: bool = True) -> None:
    """`f(matmul, tanh, *inputs)` of which the first `fed` inputs come from NumPy at every call and the result goes back to NumPy."""
    w = GpuWorkload(title, "float32", "tiny graphs", "tiny", TINY, resident=False, tolerance=(1e-3, 1e-4))
    w.inputs(lambda quick: arrays())
    w.reference(lambda *a: f(np.matmul, np.tanh, *[x.astype(np.float64) for x in a]))

    def graphflow(tf: Any, *a: np.ndarray) -> Any:
        p = [tf.placeholder(tf.float32, x.shape) for x in a[:fed]]
        kept = [tf.Variable(x) for x in a[fed:]]
        y, sess = f(tf.matmul, tf.tanh, *p, *kept), tf.Session()
        sess.run(tf.global_variables_initializer())
        given = dict(zip(p, a))
        return lambda: sess.run(y, given)

    def jax(jax: Any, *a: np.ndarray) -> Any:
        run, kept = jax.jit(lambda *p: f(jax.numpy.matmul, jax.numpy.tanh, *p)), [jax.numpy.asarray(x) for x in a[fed:]]
        return lambda: np.asarray(run(*a[:fed], *kept))

    def torch(torch: Any, *a: np.ndarray, how: Any = None) -> Any:
        def run(*p: Any) -> Any:
            return f(torch.matmul, torch.tanh, *p)
        run, kept = torch.compile(run, mode="reduce-overhead") if how else run, [torch.from_numpy(x) for x in a[fed:]]

        def step() -> Any:
            with torch.no_grad():
                return run(*[torch.from_numpy(x) for x in a[:fed]], *kept).cpu().numpy()
        return step

    def cupy(xp: Any, *a: np.ndarray) -> Any:
        kept = [xp.asarray(x) for x in a[fed:]]

        def step() -> Any:
            y = f(xp.matmul, xp.tanh, *[xp.asarray(x) for x in a[:fed]], *kept)
            return y.get() if hasattr(y, "get") else y
        return step
    w.functions.update(graphflow=graphflow, jax=jax, torch=torch, cupy=cupy, torchcompile=lambda lib, *a: torch(lib, *a, how=True))


def chain(n: int) -> Callable[..., Any]:
    def f(matmul: Any, tanh: Any, x: Any, w: Any) -> Any:
        for _ in range(n):
            x = tanh(matmul(x, w))
        return x
    return f


tiny_graph("a*b + c of numbers", lambda matmul, tanh, a, b, c: a * b + c, lambda: [np.float32(v).reshape(()) for v in (2, 3, 4)], 3)
for n in (1, 10, 50):
    tiny_graph(f"{n} products of 8x32 with tanh", chain(n), lambda: [normal(0, (8, 32)), normal(1, (32, 32), 32 ** -0.5)], 1)
