"""Random programs: reference interpreter, unoptimised, every prefix of the pipeline, and the full compiled path agree.

A program is a list of lines of Python, each making one tensor of those before it; what fails is printed as a script that
runs by itself.  Values stay tame, and ops that jump (comparisons, floor, argmax, casts to integers) read only tensors
whose numbers are exact, so that a difference is a bug and not rounding.  Some programs have loops and branches, two deep, whose
bodies are such lines; written out (iterations one after the other, both branches and a choice) they mean the same.

GRAPHFLOW_RANDOM=<n> draws n programs a test instead of the few that fit into a test run; `python tests/test_random_graphs.py
<first seed> <count> [size]` walks seeds without hypothesis, which is the quick way to look for bugs.
"""
from __future__ import annotations

import os
import random
import re
import sys
import traceback
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.flags import flags
from graphflow.passes import pipeline

BIG = int(os.environ.get("GRAPHFLOW_RANDOM", "0"))


def profile(few: int):
    """A fixed sequence of programs, short in a test run."""
    return settings(max_examples=BIG or few, deadline=None, derandomize=not BIG, database=None,
                    suppress_health_check=list(HealthCheck), print_blob=False)


# ---------------------------------------------------------------- programs


@dataclass
class Value:
    """A tensor of the program: its name in the script, shape (letters stand for unknown sizes), dtype, the largest absolute
    value it may have, and whether its numbers are free of rounding."""

    name: str
    shape: tuple
    dtype: str
    bound: float = 4.0
    exact: bool = True
    slope: bool = True  # a gradient may be asked for

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in ("float32", "float64", "float16", "bfloat16")


@dataclass
class Program:
    """Lines to execute with `tf`, `np`; which names are fed with what, fetched, and variables."""

    lines: list[str] = field(default_factory=list)
    feeds: dict[str, tuple[tuple, str, float]] = field(default_factory=dict)
    fetches: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    seed: int = 0
    half: bool = False

    def scale(self) -> float:
        return max([v.bound for v in self.values if v.is_float], default=1.0)

    def arrays(self, n: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(self.seed * 1000 + n)
        return {name: sample(rng, [n if s == "N" else s for s in shape], dtype, bound) for name,
                (shape, dtype, bound) in self.feeds.items()}

    def script(self) -> str:
        feeds = "\n".join(f"    {name!r}: ({shape!r}, {dtype!r}, {bound!r})," for name, (shape, dtype, bound) in self.feeds.items())
        body = "\n".join(self.lines)
        return f"""# ---- a script that shows the failure: save it beside tests/test_random_graphs.py and run it
import numpy as np
import graphflow as tf
from graphflow.flags import flags
from test_random_graphs import Program, compare
import test_random_graphs
from test_random_graphs import branch, like, loop, repeat
def build():
{chr(10).join('    ' + line.replace(chr(10), chr(10) + '    ') for line in self.lines)}
    return locals()
feeds = {{
{feeds}
}}
p = Program({self.lines!r},
    feeds, {self.fetches!r}, {self.variables!r}, {self.batches!r}, [], {self.seed}, {self.half})
test_random_graphs.SCALE = {self.scale()!r}
compare(p, optimize=1)
compare(p, optimize=0)
# ----
""" if body else ""


def sample(rng, shape, dtype, bound):
    """Multiples of one half (whole numbers for integers) up to `bound`."""
    top = int(min(bound, 100))
    whole = rng.integers(-top, top + 1, shape)
    if dtype == "bool":
        return whole > 0
    if dtype.startswith("u"):
        return np.abs(whole).astype(dtype)
    if dtype in ("int8", "int16", "int32", "int64"):
        return whole.astype(dtype)
    return (whole / 2).astype("float32" if dtype == "bfloat16" else dtype)


RECIPES: list = []


def recipe(weight=1):
    def add(fn):
        RECIPES.extend([fn] * weight)
        return fn
    return add


class Stuck(Exception):
    """The recipe has nothing to work on."""


class Maker:
    """Grows a program with choices of `rng` (a random.Random)."""

    def __init__(self, rng: random.Random, size: int, floats: bool = False, state: bool = True, control: bool = False, pure: bool = False):
        self.rng, self.p, self.floats = rng, Program(), floats
        self.count, self.state = 0, state and not floats and not pure
        self.depth, self.pure = 0, pure or floats and control  # bodies around; whether all that runs twice gives the same twice
        self.recipes = RECIPES + CONTROL * (len(RECIPES) // (4 * len(CONTROL))) if control else RECIPES
        self.p.seed = rng.randrange(1000)
        p0 = [3, 1, 5] if floats else rng.choice([[3, 1, 7], [4, 2], [1, 5], [2, 17, 3], [0, 4], [3, 0], [33, 2]])
        self.p.batches = p0
        for _ in range(rng.randrange(1, 4)):
            self.feed()
        if control:
            self.draw(1, CONTROL)
        self.draw(size, self.recipes)
        if control:
            self.draw(1, CONTROL)
        self.finish()

    def draw(self, count: int, recipes: list) -> None:
        """As many lines by these recipes."""
        for _ in range(count):
            for _attempt in range(20):
                try:
                    self.rng.choice(recipes)(self)
                    break
                except Stuck:
                    continue

    def body(self, params: list[Value], size: int) -> tuple[list[str], list[Value]]:
        """Lines of a function of `params`, and the values that it has made."""
        p = self.p
        lines, values, state = p.lines, p.values, self.state
        p.lines, p.values, self.state = [], [*values, *params], False
        self.depth += 1
        try:
            self.draw(size, self.recipes)
            return p.lines, p.values[len(values):]
        finally:
            self.depth -= 1
            p.lines, p.values, self.state = lines, values, state

    def back(self, lines: list[str], values: list[Value], x: Value, start: str) -> str:
        """The name of a new value of the shape and dtype of `x`, out of `start` and what a body has made."""
        fit = [v for v in values if v.dtype == x.dtype and joined(v.shape, x.shape) == x.shape]
        name = self.name()
        with_ = " + ".join([start, *[v.name for v in fit[-2:]]])
        lines.append(f"{name} = like({squeezed(with_, x)}, {x.name})")
        return name

    # -- choosing

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def choice(self, items):
        items = list(items)
        if not items:
            raise Stuck
        return self.rng.choice(items)

    def pick(self, test=lambda v: True) -> Value:
        """A value that fits, a recent one more often."""
        found = [v for v in self.p.values if test(v)]
        if not found:
            raise Stuck
        return self.rng.choice(found[-4:]) if self.rng.random() < 0.6 else self.rng.choice(found)

    def float(self, test=lambda v: True) -> Value:
        return self.pick(lambda v: v.is_float and test(v))

    def int(self, test=lambda v: True) -> Value:
        return self.pick(lambda v: v.dtype in ("int32", "int64") and test(v))

    def number(self, test=lambda v: True) -> Value:
        return self.pick(lambda v: v.dtype != "bool" and test(v))

    # -- adding

    def feed(self) -> Value:
        rng = self.rng
        dtype = rng.choice(["float32"] * 4
                           + ["float64"]) if self.floats else rng.choice(["float32"] * 5 + ["float64", "int32", "int64", "bool", "int32"])
        rank = rng.choice([0, 1, 2, 2, 2, 3, 3, 4])
        shape = tuple(rng.choice(["N", "N", 1, 2, 3, 4, 5, 8])
                      if i == 0 else rng.choice([1, 2, 3, 4, 5, 7, "N"] if rng.random() < 0.3 else [1, 2, 3, 4, 6]) for i in range(rank))
        v = Value(f"x{len(self.p.feeds)}", shape, dtype, 6.0)
        static = [None if s == "N" else s for s in shape]
        text = "None" if not self.floats and rng.random() < 0.08 else repr(static)
        self.p.lines.append(f"{v.name} = tf.placeholder(tf.{dtype}, {text})")
        if text == "None":  # the rank is known to the writer only
            self.p.feeds[v.name] = (shape, dtype, v.bound)
            name = self.name()
            self.p.lines.append(f"{name} = tf.ensure_shape({v.name}, {static!r})"
                                if hasattr(tf, "ensure_shape") else f"{name} = tf.identity({v.name}); {name}.set_shape({static!r})")
            v = Value(name, shape, dtype, v.bound)
        else:
            self.p.feeds[v.name] = (shape, dtype, v.bound)
        self.p.values.append(v)
        return v

    def constant(self, shape, dtype="float32", bound=3.0) -> Value:
        rng = np.random.default_rng(self.rng.randrange(1 << 20))
        sizes = [2 if isinstance(s, str) else s for s in shape]
        array = sample(rng, sizes, dtype, bound)
        v = Value(self.name(), tuple(sizes), dtype, bound, slope=False)
        np_dtype = "float32" if dtype == "bfloat16" else dtype
        self.p.lines.append(f"{v.name} = tf.constant(np.array({array.tolist()!r}, np.{np_dtype}).reshape({sizes!r}), tf.{dtype})")
        return v

    def add(self, text: str, shape, dtype, bound, exact, slope=True) -> Value:
        v = Value(self.name(), tuple(shape), dtype, bound, exact and bound < 1 << 18, slope)
        if v.is_float and bound > 200:  # keep numbers small: what is huge is squeezed
            text, v.bound, v.exact = f"tf.tanh(({text}) * {2.0 ** -int(np.log2(bound)):g}) * 4", 4.0, False
        elif not v.is_float and dtype not in ("bool",) and bound > 1000:
            sign = f"tf.floormod({text}, tf.constant(97, tf.{dtype}))"
            text, v.bound = sign, 97
        self.p.lines.append(f"{v.name} = {text}")
        self.p.values.append(v)
        self.p.half |= dtype in ("float16", "bfloat16")
        return v

    def broadcasting(self, a: Value) -> Value:
        """Something of the same dtype that broadcasts with `a`."""
        rng = self.rng
        if rng.random() < 0.6:
            found = [v for v in self.p.values if v.dtype == a.dtype and joined(a.shape, v.shape) is not None
                     and (v is not a or rng.random() < 0.2)]
            if found:
                return rng.choice(found[-5:])
        keep = rng.randrange(0, a.rank + 1)
        shape = tuple(1 if isinstance(s, str) or rng.random() < 0.3 else s for s in a.shape[a.rank - keep:])
        return self.constant(shape, a.dtype)

    def finish(self) -> None:
        rng, p = self.rng, self.p
        used = "\n".join(p.lines)
        leaves = [v.name for v in p.values if used.count(v.name + ",") + used.count(v.name + ")") + used.count(v.name + " ") <= 1]
        names = dict.fromkeys([*leaves[-6:], *[v.name for v in p.values if rng.random() < 0.15], p.values[-1].name])
        p.fetches = [n for n in names if not self.floats or next(v for v in p.values if v.name == n).is_float][:10] or [p.values[-1].name]


def squeezed(text: str, v: Value) -> str:
    """`text` within the bound that all loop variables have."""
    return f"tf.tanh(({text}) * 0.5) * 4" if v.is_float else f"tf.floormod({text}, tf.constant(7, tf.{v.dtype}))"


def joined(a, b):
    """The broadcast shape, or None; an unknown size goes with itself and 1 only."""
    out = []
    for i in range(1, max(len(a), len(b)) + 1):
        x, y = a[-i] if i <= len(a) else 1, b[-i] if i <= len(b) else 1
        if x != y and x != 1 and y != 1:
            return None
        out.append(y if x == 1 else x)
    return tuple(out[::-1])


# ---------------------------------------------------------------- recipes

SMOOTH = [("tf.tanh({})", 1), ("tf.sigmoid({})", 1), ("tf.sin({})", 1), ("tf.cos({})", 1), ("tf.exp(tf.tanh({}))", 2.8),
          ("tf.log(tf.abs({}) + 1)", 6),
          ("tf.sqrt(tf.abs({}) + 0.5)", 15), ("tf.nn.softplus({})", None), ("tf.erf({})", 1), ("tf.rsqrt(tf.abs({}) + 1)", 1),
          ("tf.log1p(tf.abs({}))", 6),
          ("tf.expm1(tf.sin({}))", 1.8), ("tf.atan({})", 1.6), ("tf.nn.elu({})", None), ("1.0 / (tf.abs({}) + 1)", 1),
          ("tf.log_sigmoid({})", None),
          ("tf.nn.selu({})", None), ("tf.nn.softsign({})", 1), ("tf.square(tf.tanh({}))", 1), ("tf.pow(tf.abs({}) + 1, 0.5)", 15),
          ("tf.reciprocal(tf.abs({}) + 2)", 1)]
PLAIN = [("-{}", 1), ("tf.abs({})", 1), ("tf.nn.relu({})", 1), ("{} * 2", 2), ("{} + 1", 2), ("{} * 0.5", 1), ("tf.nn.relu6({})", 1),
         ("tf.identity({})", 1), ("3 - {}", 4), ("{} - {}", 2),
         ("tf.stop_gradient({})", 1), ("tf.nn.leaky_relu({}, 0.25)", 1), ("tf.zeros_like({})", 0), ("tf.ones_like({}) + {}", 2),
         ("{} / 4.0", 1)]
JUMPY = ["tf.floor({})", "tf.ceil({})", "tf.sign({})", "tf.round({} / 2.0)", "tf.clip_by_value({}, -1.5, 2.5)", "tf.rint({})"]


@recipe(3)
def smooth(m):
    x = m.float()
    text, bound = m.choice(SMOOTH)
    m.add(text.format(x.name), x.shape, x.dtype, bound or x.bound + 2, False)


@recipe(3)
def plain(m):
    x = m.float()
    text, factor = m.choice(PLAIN)
    m.add(text.format(*[x.name] * 3), x.shape, x.dtype, max(x.bound * factor, 6), x.exact and "leaky" not in text)


@recipe(1)
def jumpy(m):
    x = m.float(lambda v: v.exact and v.dtype in ("float32", "float64"))
    text = m.choice(JUMPY)
    m.add(text.format(x.name), x.shape, x.dtype, max(x.bound, 3) + 1, True)


@recipe(5)
def binary(m):
    x = m.float()
    y = m.broadcasting(x)
    text, bound = m.choice([("{} + {}", x.bound + y.bound), ("{} - {}", x.bound + y.bound), ("{} * {}", x.bound * y.bound),
                            ("tf.maximum({}, {})", max(x.bound, y.bound)),
                            ("tf.minimum({}, {})", max(x.bound, y.bound)), ("{} / (tf.abs({}) + 1)", x.bound),
                            ("tf.squared_difference({}, {})", (x.bound + y.bound) ** 2),
                            ("tf.atan2({}, tf.abs({}) + 1)", 1.6)])
    if m.rng.random() < 0.3:
        x, y = y, x
    exact = x.exact and y.exact and "/" not in text and "atan2" not in text
    m.add(text.format(x.name, y.name), joined(x.shape, y.shape), x.dtype, max(bound, x.bound, y.bound), exact)


@recipe(2)
def integer(m):
    x = m.int()
    y = m.broadcasting(x)
    text = m.choice(["{} + {}", "{} - {}", "{} * {}", "tf.floordiv({}, tf.abs({}) + 1)", "tf.floormod({}, tf.abs({}) + 2)",
                     "tf.maximum({}, {})", "tf.minimum({}, {})",
                     "tf.truncatediv({}, tf.abs({}) + 1)", "tf.bitwise.bitwise_and({}, {})", "tf.bitwise.bitwise_xor({}, {})",
                     "tf.squared_difference({}, {})"])
    bound = (x.bound + y.bound) ** 2 if "squared" in text else x.bound * y.bound if "*" in text else 2 * max(x.bound, y.bound) + 2
    m.add(text.format(x.name, y.name), joined(x.shape, y.shape), x.dtype, bound, True, False)


@recipe(2)
def compare_two(m):
    x = m.number(lambda v: v.exact)
    y = m.broadcasting(x)
    if not y.exact:
        raise Stuck
    op = m.choice(["{} > {}", "{} <= {}", "tf.equal({}, {})", "tf.not_equal({}, {})", "tf.less({}, {})"])
    m.add(op.format(x.name, y.name), joined(x.shape, y.shape), "bool", 1, True, False)


@recipe(1)
def logic(m):
    x = m.pick(lambda v: v.dtype == "bool")
    y = m.broadcasting(x)
    op = m.choice(["tf.logical_and({}, {})", "tf.logical_or({}, {})", "tf.logical_xor({}, {})", "tf.logical_not({})"])
    m.add(op.format(x.name, y.name), x.shape if "not(" in op else joined(x.shape, y.shape), "bool", 1, True, False)


@recipe(2)
def select(m):
    c = m.pick(lambda v: v.dtype == "bool")
    x = m.pick(lambda v: v.shape == c.shape and v.dtype != "bool")
    y = m.pick(lambda v: v.shape == c.shape and v.dtype == x.dtype)
    m.add(f"tf.where({c.name}, {x.name}, {y.name})", x.shape, x.dtype, max(x.bound, y.bound), x.exact and y.exact, x.is_float)


@recipe(2)
def cast(m):
    x = m.pick(lambda v: v.exact or v.is_float)
    targets = ["float32", "float64"] if x.is_float and not x.exact or m.floats else ["float32", "float64", "int32", "int64", "bool"]
    if x.exact and x.bound < 120 and not m.floats:
        targets += ["float16", "bfloat16", "int8", "int16"]
        if not x.is_float and x.dtype in ("bool",):
            targets += ["uint8"]
    dtype = m.choice([t for t in targets if t != x.dtype])
    m.add(f"tf.cast({x.name}, tf.{dtype})", x.shape, dtype, x.bound, x.exact, x.is_float and dtype.startswith(("float", "bf")))


@recipe(6)
def reduce(m):
    x = m.number(lambda v: v.rank > 0 and v.dtype not in ("float16", "bfloat16", "int8", "int16", "uint8"))
    axes = sorted(m.rng.sample(range(x.rank), m.rng.randrange(1, x.rank + 1)))
    keep = m.rng.random() < 0.4
    n = int(np.prod([33 if isinstance(x.shape[a], str) else x.shape[a] for a in axes]))
    shape = [1 if i in axes else s for i, s in enumerate(x.shape) if keep or i not in axes]
    ops = {"sum": x.bound * n, "max": x.bound, "min": x.bound}
    zero = 0 in m.p.batches
    if zero:  # the extreme of nothing is infinite
        del ops["max"], ops["min"]
    if x.is_float:
        ops["logsumexp"] = x.bound + 4
        if not zero:
            ops["mean"] = x.bound
        else:
            del ops["logsumexp"]
    name = m.choice(ops)
    written = repr([a - x.rank if m.rng.random() < 0.3 else a for a in axes]) if len(axes) < x.rank or m.rng.random() < 0.5 else "None"
    m.add(f"tf.reduce_{name}({x.name}, axis={written}, keepdims={keep})", shape, x.dtype, ops[name],
          x.exact and name in ("sum", "max", "min"), x.is_float)


@recipe(1)
def reduce_bool(m):
    x = m.pick(lambda v: v.dtype == "bool" and v.rank > 0)
    a = m.rng.randrange(x.rank)
    m.add(f"tf.reduce_{m.choice(['any', 'all'])}({x.name}, {a})", x.shape[:a] + x.shape[a + 1:], "bool", 1, True, False)


@recipe(1)
def moments(m):
    x = m.float(lambda v: v.rank > 0)
    if 0 in m.p.batches:
        raise Stuck
    axes = sorted(m.rng.sample(range(x.rank), m.rng.randrange(1, x.rank + 1)))
    shape = [1 if i in axes else s for i, s in enumerate(x.shape)]
    which = m.rng.randrange(2)
    m.add(f"tf.nn.moments({x.name}, {axes}, keep_dims=True)[{which}]", shape, x.dtype, x.bound ** 2 if which else x.bound, False)


@recipe(2)
def rows(m):
    """Softmax, layer norm, cross entropy and other things that fold a row and use it again."""
    x = m.float(lambda v: v.rank > 0 and not isinstance(v.shape[-1], str) and v.dtype in ("float32", "float64"))
    text, bound, drop = m.choice([
        ("tf.nn.softmax({x})", 1, 0), ("tf.nn.log_softmax({x})", 2 * x.bound + 3, 0),
        ("({x} - tf.reduce_mean({x}, -1, keepdims=True)) * tf.rsqrt(tf.nn.moments({x}, [-1], keep_dims=True)[1] + 0.5)", 8, 0),
        ("tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax({x} * 0.5), logits={x})", 2 * x.bound + 3, 1),
        ("tf.nn.l2_normalize({x} + 0.25, -1)", 1, 0),
        ("{x} / (tf.reduce_sum(tf.abs({x}), -1, keepdims=True) + 1)", 1, 0),
        ("{x} - tf.reduce_max({x}, -1, keepdims=True)", 2 * x.bound, 0), ("tf.nn.l2_loss({x}) * 0.01", 60, 9),
        ("tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.sigmoid({x}), logits={x})", x.bound + 3, 0)])
    m.add(text.format(x=x.name), x.shape[:-1] if drop == 1 else () if drop else x.shape, x.dtype, bound, False)


@recipe(1)
def arg_extreme(m):
    x = m.number(lambda v: v.exact and v.rank > 0 and v.dtype in ("float32", "float64", "int32", "int64"))
    if 0 in m.p.batches:
        raise Stuck
    a = m.rng.randrange(x.rank)
    bound = 33 if isinstance(x.shape[a], str) else x.shape[a]
    m.add(f"tf.arg{m.choice(['max', 'min'])}({x.name}, {a})", x.shape[:a] + x.shape[a + 1:], "int64", bound, True, False)


@recipe(1)
def scan(m):
    x = m.number(lambda v: v.rank > 0 and v.dtype in ("float32", "float64", "int32", "int64") and v.bound < 50)
    a = m.rng.randrange(x.rank)
    n = 33 if isinstance(x.shape[a], str) else x.shape[a]
    m.add(f"tf.cumsum({x.name}, {a}, exclusive={m.rng.random() < .4}, reverse={m.rng.random() < .4})", x.shape, x.dtype,
          x.bound * max(n, 1), x.exact, x.is_float)


# -- movement


@recipe(2)
def transpose(m):
    x = m.pick(lambda v: v.rank > 1)
    perm = m.rng.sample(range(x.rank), x.rank)
    m.add(f"tf.transpose({x.name}, {perm})", [x.shape[i] for i in perm], x.dtype, x.bound, x.exact, x.is_float)


@recipe(3)
def reshape(m):
    x = m.pick(lambda v: v.rank > 0)
    how = m.rng.randrange(5)
    unknown = [s for s in x.shape if isinstance(s, str)]
    if how == 0:
        a = m.rng.randrange(x.rank + 1)
        m.add(f"tf.expand_dims({x.name}, {a})", (*x.shape[:a], 1, *x.shape[a:]), x.dtype, x.bound, x.exact, x.is_float)
    elif how == 1:
        a = m.choice(i for i, s in enumerate(x.shape) if s == 1)
        m.add(f"tf.squeeze({x.name}, [{a}])", x.shape[:a] + x.shape[a + 1:], x.dtype, x.bound, x.exact, x.is_float)
    elif how == 2 and x.rank > 1 and len(unknown) <= 1:
        a = m.rng.randrange(x.rank - 1)  # two neighbours become one
        pair = x.shape[a:a + 2]
        if any(isinstance(s, str) for s in pair):
            if pair != ("N", 1) and pair != (1, "N"):
                raise Stuck
            size = "N"
        else:
            size = pair[0] * pair[1]
        shape = (*x.shape[:a], size, *x.shape[a + 2:])
        m.add(f"tf.reshape({x.name}, {[-1 if s == 'N' else s for s in shape]})", shape, x.dtype, x.bound, x.exact, x.is_float)
    elif how == 3 and len(unknown) == 0:
        total = int(np.prod(x.shape))
        first = m.choice([d for d in (1, 2, 3, 4, 6) if total and total % d == 0])
        m.add(f"tf.reshape({x.name}, [{first}, -1])", (first, total // first), x.dtype, x.bound, x.exact, x.is_float)
    elif x.shape[0] == "N" and len(unknown) == 1:
        m.add(f"tf.reshape({x.name}, [tf.shape({x.name})[0], {int(np.prod(x.shape[1:]))}])", ("N", int(np.prod(x.shape[1:]))), x.dtype,
              x.bound, x.exact, x.is_float)
    else:
        raise Stuck


@recipe(2)
def slice_(m):
    x = m.pick(lambda v: v.rank > 0)
    parts, shape = [], []
    for s in x.shape:
        if isinstance(s, str) or s < 2 or m.rng.random() < 0.4:
            text = m.choice([":", ":", "::-1"])
            parts.append(text)
            shape.append(s)
            continue
        lo, hi = sorted(m.rng.sample(range(s + 1), 2))
        how = m.rng.randrange(4)
        if how == 0:
            parts.append(str(m.choice([lo, lo - s]) if lo < s else 0))
            continue
        step = m.choice([1, 1, 2])
        text = f"{lo}:{hi}:{step}" if how < 3 else f"{hi - 1}:{lo - 1 if lo else ''}:-1"
        parts.append(text)
        shape.append(len(range(lo, hi, step)) if how < 3 else hi - lo)
    m.add(f"{x.name}[{', '.join(parts)}]", shape, x.dtype, x.bound, x.exact, x.is_float)


@recipe(2)
def concat(m):
    x = m.pick(lambda v: v.rank > 0 and v.dtype != "bool")
    a = m.choice(i for i, s in enumerate(x.shape) if not isinstance(s, str))
    others = [v for v in m.p.values if v.dtype == x.dtype and v.rank == x.rank and not isinstance(v.shape[a], str)
              and all(i == a or s == t for i, (s, t) in enumerate(zip(v.shape, x.shape)))]
    parts = [x, *[m.rng.choice(others) for _ in range(m.rng.randrange(1, 3))]]
    m.rng.shuffle(parts)
    shape = list(x.shape)
    shape[a] = sum(v.shape[a] for v in parts)
    if shape[a] > 40:
        raise Stuck
    m.add(f"tf.concat([{', '.join(v.name for v in parts)}], {a})", shape, x.dtype, max(v.bound for v in parts), all(v.exact for v in parts),
          x.is_float)


@recipe(1)
def stack(m):
    x = m.pick(lambda v: v.rank < 4)
    y = m.pick(lambda v: v.dtype == x.dtype and v.shape == x.shape)
    a = m.rng.randrange(x.rank + 1)
    m.add(f"tf.stack([{x.name}, {y.name}], {a})", (*x.shape[:a], 2, *x.shape[a:]), x.dtype, max(x.bound, y.bound), x.exact and y.exact,
          x.is_float)


@recipe(1)
def tile_pad_reverse(m):
    x = m.pick(lambda v: v.rank > 0 and v.dtype != "bool")
    how = m.rng.randrange(5)
    if how == 0:
        times = [1 if isinstance(s, str) or s > 8 else m.rng.choice([1, 2, 3]) for s in x.shape]
        m.add(f"tf.tile({x.name}, {times})", [s if isinstance(s, str) else s * k for s, k in zip(x.shape, times)], x.dtype, x.bound,
              x.exact, x.is_float)
    elif how == 1:
        pads = [[0, 0] if isinstance(s, str) or s > 8 else [m.rng.randrange(3), m.rng.randrange(3)] for s in x.shape]
        m.add(f"tf.pad({x.name}, {pads})", [s if isinstance(s, str) else s + sum(k) for s, k in zip(x.shape, pads)], x.dtype, x.bound,
              x.exact, x.is_float)
    elif how == 2:
        a = m.rng.randrange(x.rank)
        m.add(f"tf.reverse({x.name}, [{a}])", x.shape, x.dtype, x.bound, x.exact, x.is_float)
    elif how == 3:
        mode = m.choice(["SYMMETRIC"] if 0 in m.p.batches else ["REFLECT", "SYMMETRIC"])  # nothing has no mirror image
        pads = [[0, 0] if isinstance(s, str) or s < 2 or s > 8 else [m.rng.randrange(2), m.rng.randrange(2)] for s in x.shape]
        m.add(f"tf.pad({x.name}, {pads}, '{mode}')", [s if isinstance(s, str) else s + sum(k) for s, k in zip(x.shape, pads)], x.dtype,
              x.bound, x.exact, x.is_float)
    else:
        k = m.rng.choice([2, 3])
        m.add(f"tf.ones([{k}] + [1] * {x.rank}, tf.{x.dtype}) * {x.name}" if x.dtype not in ("bool",) else f"tf.stack([{x.name}] * {k})",
              (k, *x.shape), x.dtype, x.bound, x.exact, x.is_float)


@recipe(2)
def gather(m):
    x = m.pick(lambda v: v.rank > 0 and v.dtype not in ("bool",))
    a = m.choice(i for i, s in enumerate(x.shape) if not isinstance(s, str) and s > 0)
    if m.rng.random() < 0.5:
        i = m.int(lambda v: v.rank < 3)
        index, shape = f"tf.floormod({i.name}, {x.shape[a]})", i.shape
    else:
        k = m.rng.randrange(1, 5)
        index, shape = repr([m.rng.randrange(x.shape[a]) for _ in range(k)]), (k,)
    if x.rank + len(shape) - 1 > 4:
        raise Stuck
    m.add(f"tf.gather({x.name}, {index}, axis={a})", (*x.shape[:a], *shape, *x.shape[a + 1:]), x.dtype, x.bound, x.exact, x.is_float)


@recipe(1)
def gather_nd(m):
    x = m.float(lambda v: v.rank > 1 and all(not isinstance(s, str) and s > 0 for s in v.shape[:2]))
    k = m.rng.randrange(1, 4)
    where = [[m.rng.randrange(x.shape[0]), m.rng.randrange(x.shape[1])] for _ in range(k)]
    m.add(f"tf.gather_nd({x.name}, {where})", (k, *x.shape[2:]), x.dtype, x.bound, x.exact)


@recipe(1)
def one_hot(m):
    i = m.int(lambda v: v.rank < 3)
    depth = m.rng.choice([2, 4, 5])
    a = m.rng.choice([-1, 0])
    shape = (*i.shape, depth) if a else (depth, *i.shape)
    m.add(f"tf.one_hot({i.name}, {depth}, axis={a})", shape, "float32", 1, True, False)


@recipe(1)
def segments(m):
    x = m.number(lambda v: 0 < v.rank < 4 and v.dtype in ("float32", "float64", "int32") and v.bound < 60)
    n = x.shape[0]
    i = m.int(lambda v: v.shape == (n,)) if m.rng.random() < 0.8 or isinstance(n, str) else m.constant((n,), "int32")
    k = m.rng.choice([1, 3, 4])
    m.add(f"tf.unsorted_segment_sum({x.name}, tf.floormod({i.name}, {k}), {k})", (k, *x.shape[1:]), x.dtype,
          x.bound * (33 if isinstance(n, str) else n), x.exact, x.is_float)


@recipe(1)
def scatter(m):
    x = m.number(lambda v: 0 < v.rank < 4 and v.dtype in ("float32", "float64", "int32") and not any(isinstance(s, str) for s in v.shape))
    k = m.rng.choice([2, 5])
    where = [[m.rng.randrange(k)] for _ in range(x.shape[0])]
    m.add(f"tf.scatter_nd(np.array({where}, np.int32).reshape([-1, 1]), {x.name}, {[k, *x.shape[1:]]})", (k, *x.shape[1:]), x.dtype,
          x.bound * max(x.shape[0], 1), x.exact, x.is_float)


# -- contractions and windows


@recipe(3)
def matmul(m):
    x = m.float(lambda v: v.rank >= 2 and v.bound < 40 and v.dtype in ("float32", "float64"))
    n = x.shape[-1]
    how = m.rng.randrange(4)
    k = 33 if isinstance(n, str) else n
    if how == 0 and not isinstance(n, str) and x.rank == 2:
        w = m.constant((n, m.rng.choice([1, 2, 5, 16, 40])), x.dtype, 2)
        m.add(f"tf.matmul({x.name}, {w.name})", (x.shape[0], w.shape[1]), x.dtype, x.bound * 2 * max(k, 1), x.exact)
    elif how == 1:
        m.add(f"tf.matmul({x.name}, {x.name}, transpose_a=True)", (*x.shape[:-2], n, n), x.dtype,
              x.bound ** 2 * (33 if isinstance(x.shape[-2], str) else max(x.shape[-2], 1)), x.exact)
    elif how == 2:
        m.add(f"tf.matmul({x.name}, {x.name}, transpose_b=True)", (*x.shape[:-2], x.shape[-2], x.shape[-2]), x.dtype,
              x.bound ** 2 * max(k, 1), x.exact)
    else:
        y = m.float(lambda v: v.rank == x.rank and v.shape[:-2] == x.shape[:-2] and v.shape[-2] == n and v.dtype == x.dtype
                    and v.bound < 40)
        m.add(f"tf.matmul({x.name}, {y.name})", (*x.shape[:-1], y.shape[-1]), x.dtype, x.bound * y.bound * max(k, 1), x.exact and y.exact)


@recipe(1)
def dense(m):
    """A layer: product, bias, activation."""
    x = m.float(lambda v: v.rank == 2 and not isinstance(v.shape[1], str) and v.shape[1] > 0 and v.bound < 40 and v.dtype == "float32")
    k = m.rng.choice([1, 3, 8, 32])
    w, b = m.constant((x.shape[1], k), x.dtype, 2), m.constant((k,), x.dtype)
    m.add(f"tf.nn.relu(tf.nn.bias_add(tf.matmul({x.name}, {w.name}), {b.name}))", (x.shape[0], k), x.dtype, x.bound * 2 * x.shape[1] + 3,
          x.exact)


@recipe(1)
def image(m):
    x = m.float(lambda v: v.rank == 4 and v.dtype == "float32" and all(not isinstance(s, str) and s >= 2 for s in v.shape[1:3])
                and not isinstance(v.shape[3], str) and v.shape[3] > 0 and v.bound < 20)
    h, w, c = x.shape[1:]
    padding, s = m.choice(["SAME", "VALID"]), m.rng.choice([1, 2])
    size = (lambda n: -(-n // s)) if padding == "SAME" else (lambda n: -(-(n - 1) // s))
    how = m.rng.randrange(3)
    if how == 0:
        k = m.constant((2, 2, c, m.rng.choice([1, 2, 4])), x.dtype, 2)
        m.add(f"tf.nn.conv2d({x.name}, {k.name}, [1, {s}, {s}, 1], '{padding}')", (x.shape[0], size(h), size(w), k.shape[3]), x.dtype,
              x.bound * 8 * c, x.exact)
    else:
        name = "max_pool" if how == 1 else "avg_pool"
        m.add(f"tf.nn.{name}({x.name}, [1, 2, 2, 1], [1, {s}, {s}, 1], '{padding}')", (x.shape[0], size(h), size(w), c), x.dtype, x.bound,
              x.exact and how == 1)


# -- state, randomness, sizes that depend on data


@recipe(2)
def variable(m):
    if not m.state:
        raise Stuck
    shape = tuple(m.rng.choice([1, 2, 3, 4]) for _ in range(m.rng.randrange(0, 3)))
    dtype = m.rng.choice(["float32", "float32", "float32", "int32"])
    c = m.constant(shape, dtype)
    name = f"v{len(m.p.variables)}"
    m.p.lines.append(f"{name} = tf.Variable({c.name}, trainable=True)")
    m.p.variables.append(name)
    m.p.values.append(Value(name, shape, dtype, 200 if dtype == "float32" else 900))


@recipe(3)
def assign(m):
    v = m.pick(lambda v: v.name.startswith("v"))
    x = m.pick(lambda x: x.dtype == v.dtype and joined(x.shape, v.shape) == v.shape and x.bound <= 20 and x.shape == v.shape)
    how = m.choice(["assign", "assign_add", "assign_sub"])
    value = f"tf.clip_by_value({x.name} * 0.5, -3, 3)" if v.is_float else f"tf.floormod({x.name}, 7)"
    text = f"{v.name}.{how}({value})"
    name = m.name()
    m.p.lines.append(f"{name} = {text}")
    m.p.values.append(Value(name, v.shape, v.dtype, 200 if v.is_float else 900, x.exact))
    exact = [w for w in m.p.values if w.name == v.name]
    for w in exact:
        w.exact = w.exact and x.exact


@recipe(1)
def scatter_state(m):
    v = m.pick(lambda v: v.name.startswith("v") and v.rank > 0)
    k = m.rng.randrange(1, 3)
    where = [m.rng.randrange(v.shape[0]) for _ in range(k)]
    x = m.constant((k, *v.shape[1:]), v.dtype)
    how = m.choice(["scatter_add", "scatter_sub", "scatter_update"])
    if how == "scatter_update":
        where = list(dict.fromkeys(where))
        x = m.constant((len(where), *v.shape[1:]), v.dtype)
    name = m.name()
    m.p.lines.append(f"{name} = tf.{how}({v.name}, {where}, {x.name})")
    m.p.values.append(Value(name, v.shape, v.dtype, 200 if v.is_float else 900, v.exact))


@recipe(1)
def draw(m):
    if m.pure:
        raise Stuck
    shape = tuple(m.rng.choice([1, 2, 3, 5]) for _ in range(m.rng.randrange(0, 3)))
    kind = m.choice(["random_uniform", "random_normal", "truncated_normal"])
    m.add(f"tf.{kind}({list(shape)}, seed={m.rng.randrange(9)})", shape, "float32", 6, False)


@recipe(1)
def dropout(m):
    if m.pure:
        raise Stuck
    x = m.float(lambda v: v.dtype == "float32")
    m.add(f"tf.nn.dropout({x.name}, keep_prob=0.5, seed={m.rng.randrange(9)})", x.shape, x.dtype, 2 * x.bound, False)


@recipe(1)
def by_data(m):
    """A number of rows that depends on values."""
    if m.floats or 0 in m.p.batches or m.depth:
        raise Stuck
    x = m.number(lambda v: v.rank > 0 and v.exact and not isinstance(v.shape[0], str) and v.shape[0] > 0
                 and v.dtype not in ("float16", "bfloat16"))
    tag = f"M{m.count}"
    how = m.rng.randrange(3)
    if how == 0:
        flat = f"tf.reduce_sum(tf.cast({x.name}, tf.float32), axis={list(range(1, x.rank))})" if x.rank > 1 else x.name
        m.add(f"tf.boolean_mask({x.name}, {flat} > 0)", (tag, *x.shape[1:]), x.dtype, x.bound, True)
    elif how == 1:
        m.add(f"tf.unique(tf.reshape({x.name}, [-1]))[0]", (tag,), x.dtype, x.bound, True, False)
    else:
        m.add(f"tf.where({x.name} > 0)", (tag, x.rank), "int64", 40, True, False)


@recipe(1)
def by_size(m):
    """The batch size as a number, and shapes made of it."""
    x = m.pick(lambda v: v.rank > 0 and v.shape[0] == "N")
    how = m.rng.randrange(4)
    if how == 0:
        m.add(f"tf.shape({x.name})", (x.rank,), "int32", 33, True, False)
    elif how == 1:
        m.add(f"tf.zeros([tf.shape({x.name})[0], 3]) + 2", ("N", 3), "float32", 3, True, False)
    elif how == 2:
        m.add(f"tf.range(tf.shape({x.name})[0])", ("N",), "int32", 33, True, False)
    else:
        m.add(f"tf.cast(tf.size({x.name}), tf.float32) * 0.25", (), "float32", 300, True, False)


# -- loops and branches

CONTROL: list = []
WRITTEN_OUT = False  # loops and branches as what they mean
SWAP = False


def loop(n, body, *start):
    """`body(i, *values)` n times."""
    if not WRITTEN_OUT:
        return tf.while_loop(lambda i, *_: i < n, lambda i, *v: (i + 1, *body(i, *v)), [0, *start], swap_memory=SWAP)[1:]
    for i in range(n):
        start = body(tf.constant(i), *start)
    return start


def repeat(n, body, *start):
    """`body(i, *values)` as often as the int32 scalar says, at most 4 times."""
    if not WRITTEN_OUT:
        return loop(n, body, *start)
    for i in range(4):
        start = [chosen(i < n, new, old) for new, old in zip(body(tf.constant(i), *start), start)]
    return start


def branch(p, yes, no):
    if not WRITTEN_OUT:
        return tf.cond(p, yes, no)
    return [chosen(p, a, b) for a, b in zip(yes(), no())]


def chosen(p, a, b):
    return tf.where(tf.fill(tf.shape(a), p), a, b)


def like(t, x):
    """`t` with what is known of the shape of `x`."""
    t = tf.identity(t)
    t.set_shape(x.shape)
    return t


def control(weight=1):
    def add(fn):
        CONTROL.extend([fn] * weight)
        return fn
    return add


def function(name: str, params: list[str], lines: list[str], results: list[str]) -> str:
    body = "\n".join([*lines, f"return [{', '.join(results)}]"])
    return f"def {name}({', '.join(params)}):\n    " + body.replace("\n", "\n    ")


def variables_of_a_loop(m) -> list[Value]:
    if m.depth >= 2:
        raise Stuck
    kinds = ("float32", "float64") if m.floats or m.rng.random() < 0.7 else ("int32", "int64")
    found = [m.pick(lambda v: v.dtype in kinds and v.rank <= 3 and not v.name.startswith("v")) for _ in range(m.rng.choice([1, 1, 2, 3]))]
    return found if m.floats else [*found, m.pick(lambda v: v.dtype in ("int32", "float32") and v.rank <= 2)]


def a_loop(m, call: str, extra: str = "", known: tuple = ()) -> None:
    """`call`: the text before the function; `extra`: a line at the start of the body that makes the value `known` of the iteration."""
    starts = variables_of_a_loop(m)
    tag = m.name()
    params = [Value(m.name(), x.shape, x.dtype, 4.0 if x.is_float else 7.0, x.exact and not x.is_float) for x in starts]
    i = Value(m.name(), (), "int32", 4.0, True, False)
    seen = [Value(m.name(), *known)] if known else []
    lines, made = m.body([i, *params, *seen], m.rng.randrange(1, 5))
    if seen:
        lines.insert(0, f"{seen[0].name} = {extra.format(i=i.name)}")
    back = [m.back(lines, made, p, p.name) for p in params]
    text = function(f"body_{tag}", [i.name, *[p.name for p in params]], lines, back)
    begin = ", ".join(squeezed(x.name, x) for x in starts)
    m.p.lines.append(f"{tag} = None\n{text}\n{tag} = {call.format(body=f'body_{tag}', start=begin)}")
    for k, p in enumerate(params):
        v = Value(m.name(), p.shape, p.dtype, p.bound, not p.is_float, p.is_float)
        m.p.lines.append(f"{v.name} = {tag}[{k}]")
        m.p.values.append(v)


def number_by_data(m) -> str:
    """0 to 3, as an int32 scalar that only the data tell."""
    x = m.number(lambda v: v.exact and v.bound < 60 and v.dtype in ("float32", "float64", "int32", "int64") and v.rank <= 3)
    return f"tf.floormod(tf.cast(tf.reduce_sum({x.name}) * 2, tf.int32), 4)"


@control(3)
def counted(m):
    a_loop(m, f"loop({m.rng.choice([0, 1, 2, 3, 3, 4])}, {{body}}, {{start}})")


@control(2)
def by_its_data(m):
    a_loop(m, f"repeat({number_by_data(m)}, {{body}}, {{start}})")


@control(2)
def over_rows(m):
    """A loop that reads the rows of an array, and one more that collects values in another."""
    x = m.pick(lambda v: v.rank > 0 and not isinstance(v.shape[0], str) and 0 < v.shape[0] <= 5
               and v.dtype in ("float32", "float64", "int32"))
    if m.depth >= 2:
        raise Stuck
    ta = m.name()
    m.p.lines.append(f"{ta} = tf.TensorArray(tf.{x.dtype}, {x.shape[0]}).unstack({x.name})")
    at = m.choice(["{i}", f"{x.shape[0] - 1} - {{i}}"])
    a_loop(m, f"loop({x.shape[0]}, {{body}}, {{start}})", f"{ta}.read({at})", (x.shape[1:], x.dtype, x.bound, x.exact))


@control(2)
def collected(m):
    if m.depth >= 2:
        raise Stuck
    kinds = ("float32", "float64") if m.floats else ("float32", "float64", "int32")
    x = m.pick(lambda v: v.dtype in kinds and v.rank <= 2)
    n, tag, i = m.rng.choice([1, 2, 3]), m.name(), Value(m.name(), (), "int32", 4.0, True, False)
    p = Value(m.name(), x.shape, x.dtype, 4.0 if x.is_float else 7.0, x.exact and not x.is_float)
    ta = m.name()
    lines, made = m.body([i, p], m.rng.randrange(1, 4))
    last = m.back(lines, made, p, p.name)
    write = f"{ta}.write({m.choice([i.name, f'{n - 1} - {i.name}'])}, {m.choice([last, p.name])})"
    text = function(f"body_{tag}", [i.name, p.name, ta], lines, [last, write])
    m.p.lines.append(f"{tag} = None\n{text}\n{tag} = loop({n}, body_{tag}, {squeezed(x.name, x)}, "
                     f"tf.TensorArray(tf.{x.dtype}, {n}))[1].stack()")
    m.p.values.append(Value(tag, (n, *x.shape), x.dtype, p.bound, not x.is_float, x.is_float))


@control(3)
def branches(m):
    if m.depth >= 2:
        raise Stuck
    x = m.pick(lambda v: v.dtype in (("float32", "float64") if m.floats else ("float32", "float64", "int32")) and v.rank <= 3
               and not v.name.startswith("v"))
    p, tag, texts = number_by_data(m), m.name(), []
    for side in ("yes", "no"):
        lines, made = m.body([], m.rng.randrange(0, 4))
        back = m.back(lines, made, x, f"{x.name} * {m.rng.choice([1, 2])}")
        texts.append(function(f"{side}_{tag}", [], lines, [back]))
    m.p.lines.append(f"{tag} = None\n" + "\n".join(texts) + f"\n{tag} = branch({p} > 1, yes_{tag}, no_{tag})")
    v = Value(m.name(), x.shape, x.dtype, 4.0 if x.is_float else 7.0, not x.is_float and x.exact, x.is_float)
    m.p.lines.append(f"{v.name} = {tag}[0] if isinstance({tag}, list) else {tag}")
    m.p.values.append(v)


# ---------------------------------------------------------------- running


SCALE = None


def build(p: Program) -> dict:
    scope = {"tf": tf, "np": np, "loop": loop, "repeat": repeat, "branch": branch, "like": like}
    for line in p.lines:
        exec(line, scope)
    return scope


def execute(p: Program, runs=None, **options) -> list:
    """The results of a Session that runs every batch size in turn, twice; errors count as results."""
    with tf.Graph().as_default(), flags.override(**options), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.set_random_seed(5)
        scope = build(p)
        fetches, variables = [scope[n] for n in p.fetches], [scope[n] for n in p.variables]
        out = []
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for n in runs or [*p.batches, p.batches[0], p.batches[0]]:
                feeds = {scope[k]: v for k, v in p.arrays(n).items()}
                try:
                    out.append(sess.run(fetches, feeds))
                except tf.errors.OpError as e:
                    out.append((type(e), e))
                out.append(sess.run(variables) if variables else [])
        return out


def gradients(p: Program, **options) -> list:
    """Gradients of the sum of all float results with respect to the float feeds."""
    with tf.Graph().as_default(), flags.override(**options), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.set_random_seed(5)
        scope = build(p)
        loss = tf.add_n([tf.reduce_sum(tf.cast(scope[n], tf.float32)) for n in p.fetches])
        feeds = [scope[n] for n in p.feeds]
        found = [tf.convert_to_tensor(g) for g in tf.gradients(loss, feeds, unconnected_gradients="zero")]
        with tf.Session() as sess:
            return [sess.run([loss, *found], {scope[k]: v for k, v in p.arrays(n).items()}) for n in p.batches]


def same(found, wanted, p: Program, note: str, scale: float, slack=1.0) -> None:
    assert len(found) == len(wanted)
    for step, (f, w) in enumerate(zip(found, wanted)):
        if isinstance(w, tuple):
            assert isinstance(f, tuple) and f[0] is w[0], f"{note}, run {step}: {f}, but the reference raises {w[1]}"
            continue
        assert not isinstance(f, tuple), f"{note}, run {step}: raises {f[1]}, the reference does not"
        for i, (a, b) in enumerate(zip(f, w)):
            a, b = np.asarray(a), np.asarray(b)
            name = p.fetches[i] if step % 2 == 0 and i < len(p.fetches) else p.variables[i] if i < len(p.variables) else i
            assert a.shape == b.shape, f"{note}, run {step}, {name}: shape {a.shape}, the reference has {b.shape}"
            assert a.dtype == b.dtype, f"{note}, run {step}, {name}: {a.dtype}, the reference has {b.dtype}"
            if a.dtype.kind in "fc":
                eps = 4e-2 if p.half else 1e-4 if a.dtype == np.float32 else 1e-4
                top = np.abs(b[np.isfinite(b)]).max(initial=0)
                np.testing.assert_allclose(a, b, rtol=eps * slack, atol=eps * slack * 0.1 * max(scale if not slack > 1 else 1, top, 1),
                                           err_msg=f"{note}, run {step}, {name}")
            else:
                assert np.array_equal(a, b), f"{note}, run {step}, {name}:\n{a}\nthe reference has\n{b}"


def compare(p: Program, note="compiled", **options) -> None:
    """The compiled result under `options` is the reference's."""
    scale = SCALE or p.scale()
    wanted = execute(p, interpret=1)
    same(execute(p, **options), wanted, p, f"{note} {options}", min(scale, 50))


# Sizes at which the compiler takes another way, made so small that small arrays take it.
SMALL_LIMITS = {"graphflow.codegen.schedule.PIECE": 4, "graphflow.codegen.emit_cpu.TILE": 4,
                "graphflow.codegen.emit_cpu.SUM": 3,
                "graphflow.codegen.emit_cpu.LITERAL": 1, "graphflow.codegen.contract.SMALL": 1, "graphflow.passes.fusion.ROW_LIMIT": 12,
                "graphflow.passes.fusion.SERIAL_LIMIT": 6, "graphflow.runtime.plan.SMALL": 8, "graphflow.runtime.executable.SMALL": 8}


@contextmanager
def small_limits():
    """As if arrays were large: reductions in pieces, several tiles, packed products, results bound by address, threads."""
    from graphflow.codegen import emit_cpu
    from graphflow.runtime import plan

    def grain(self, e, extent):
        return emit_cpu.TILE if e.lanes else 1

    with ExitStack() as stack:
        for name, value in SMALL_LIMITS.items():
            stack.enter_context(mock.patch(name, value))
        stack.enter_context(mock.patch.object(plan.Plan, "_grain", grain))
        yield


def compare_small_limits(p: Program) -> None:
    with small_limits():
        compare(p, "small limits", threads=2)


def prefixes(p: Program, count: int | None = None) -> None:
    """The pipeline cut after each pass."""
    wanted = execute(p, interpret=1, runs=p.batches[:1])
    full = pipeline.current()
    for k in range(len(full)) if count is None else [count % len(full)]:
        kept = full[:k + 1]
        cut = (*kept, *[q for q in pipeline.MINIMAL if q not in kept])
        with mock.patch.object(pipeline, "current", lambda cut=cut: cut):
            same(execute(p, runs=p.batches[:1]), wanted, p, f"passes up to {full[k].name!r}", min(p.scale(), 50))


def compare_gradients(p: Program) -> None:
    wanted = gradients(p, interpret=1)
    same(gradients(p), wanted, Program(fetches=["loss", *["gradient"] * 9], half=p.half), "gradient", 1, 10.0)


@contextmanager
def forms(written_out=False, swap=False):
    with mock.patch.object(sys.modules[__name__], "WRITTEN_OUT", written_out), mock.patch.object(sys.modules[__name__], "SWAP", swap):
        yield


def compare_forms(p: Program) -> None:
    """Loops and branches, interpreted and compiled, are what they mean."""
    scale = min(p.scale(), 50)
    with forms(written_out=True):
        wanted = execute(p, interpret=1)
    same(execute(p, interpret=1), wanted, p, "interpreted loops", scale)
    same(execute(p), wanted, p, "compiled loops", scale)


def compare_slopes(p: Program, compiled: bool = True) -> None:
    """The gradients of loops, also of those that are computed again, are those of what they mean."""
    note = Program(fetches=["loss", *["gradient"] * 9], half=p.half)
    with forms(written_out=True):
        wanted = gradients(p, interpret=1)
    same(gradients(p, interpret=1), wanted, note, "interpreted loops", 1, 10.0)
    with forms(swap=True):
        same(gradients(p, interpret=1), wanted, note, "interpreted loops, checkpointed", 1, 10.0)
    if compiled:
        same(gradients(p), wanted, note, "compiled loops", 1, 10.0)


def checked(p: Program, check) -> None:
    """Runs a check; a failure comes with its script."""
    try:
        check(p)
    except Exception as e:
        e.add_note(p.script())
        raise


programs = st.builds(lambda r, size: Maker(r, size).p, st.randoms(use_true_random=False, note_method_calls=False), st.integers(3, 14))
float_programs = st.builds(lambda r, size: Maker(r, size, floats=True).p, st.randoms(use_true_random=False, note_method_calls=False),
                           st.integers(3, 9))


def with_control(**options):
    return st.builds(lambda r, size: Maker(r, size, control=True, **options).p, st.randoms(use_true_random=False, note_method_calls=False),
                     st.integers(2, 7))


@profile(8)
@given(with_control(pure=True))
def test_loops_and_branches_are_what_they_mean(p):
    checked(p, compare_forms)


@profile(4)
@given(with_control())
def test_loops_and_branches_with_state_and_random_numbers(p):
    checked(p, lambda p: compare(p, optimize=1))


@profile(6)
@given(with_control(floats=True))
def test_gradients_of_loops_and_branches(p):
    checked(p, compare_slopes)


@profile(16)
@given(programs)
def test_compiled_programs_compute_what_the_reference_computes(p):
    checked(p, lambda p: compare(p, optimize=1))


@profile(6)
@given(programs)
def test_one_kernel_an_op(p):
    checked(p, lambda p: compare(p, optimize=0))


@profile(9)
@given(programs)
def test_ways_that_only_large_arrays_take(p):
    checked(p, compare_small_limits)


@profile(6)
@given(programs, st.integers(0, 12))
def test_each_prefix_of_the_pipeline(p, k):
    checked(p, lambda p: prefixes(p, k))


@profile(7)
@given(float_programs)
def test_gradients_of_programs(p):
    checked(p, compare_gradients)


def reduced(p: Program, check) -> Program:
    """The program with fetches, lines and batch sizes left out as long as it fails in the same way."""
    def kind(q: Program) -> str:
        try:
            check(q)
            return ""
        except Exception as e:
            return type(e).__name__ + ("AssertionError" in type(e).__name__ and str(e).strip().split(",")[0][:12] or "")

    def variants(q: Program):
        yield from ([f] for f in q.fetches if len(q.fetches) > 1)
        yield from ([g for g in q.fetches if g != f] for f in q.fetches if len(q.fetches) > 1)

    wanted, better = kind(p), True
    while better:
        better = False
        for fetches in variants(p):
            q = replace(p, fetches=fetches)
            if kind(q) == wanted:
                p, better = q, True
                break
        for i in reversed(range(len(p.lines))):
            name = p.lines[i].split(" = ")[0]
            rest = p.lines[:i] + p.lines[i + 1:]
            if name in p.fetches or any(re.search(rf"\b{name}\b", line) for line in rest):
                continue
            q = replace(p, lines=rest, feeds={k: v for k, v in p.feeds.items() if k != name},
                        variables=[v for v in p.variables if v != name])
            if kind(q) == wanted:
                p, better = q, True
        for n in p.batches if len(p.batches) > 1 else []:
            q = replace(p, batches=[b for b in p.batches if b != n])
            if kind(q) == wanted:
                p, better = q, True
                break
    return p


def main(first: int, count: int, size: int = 10, what: str = "ogpnt") -> None:
    """Walks seeds and prints what fails."""
    bad = 0
    for seed in range(first, first + count):
        rng = random.Random(seed)
        checks = {"o": lambda p: compare(p, optimize=1), "n": lambda p: compare(p, optimize=0), "p": lambda p: prefixes(p, seed),
                  "t": compare_small_limits}
        for letter, check in checks.items():
            if letter in what and (letter in "ot" or seed % 4 == 0):
                bad += not _quiet(Maker(random.Random(seed), rng.randrange(2, size)).p, check, f"seed {seed} {letter}")
        if "c" in what:
            bad += not _quiet(Maker(random.Random(seed), rng.randrange(2, size), control=True, pure=True).p, compare_forms,
                              f"seed {seed} forms")
            bad += not _quiet(Maker(random.Random(seed), rng.randrange(2, size), control=True).p, lambda p: compare(p, optimize=1),
                              f"seed {seed} loops")
        if "s" in what:
            bad += not _quiet(Maker(random.Random(seed), rng.randrange(2, size), control=True, floats=True).p, compare_slopes,
                              f"seed {seed} slopes")
        if "i" in what:
            bad += not _quiet(Maker(random.Random(seed), rng.randrange(2, size), control=True, floats=True).p,
                              lambda p: compare_slopes(p, False), f"seed {seed} interpreted slopes")
        if "g" in what and seed % 2 == 0:
            bad += not _quiet(Maker(random.Random(seed), rng.randrange(2, size), floats=True).p, compare_gradients,
                              f"seed {seed} gradients")
    print(f"{count} seeds from {first}: {bad} failures", flush=True)


def _quiet(p: Program, check, note: str) -> bool:
    try:
        check(p)
        return True
    except Exception as e:
        p = reduced(p, check)
        lines = "".join(traceback.format_exception(e)[-3:])
        print(f"==== {note}\n{lines[-1800:]}\n" + "\n".join(p.lines) + f"\nfetch {p.fetches} feed {p.feeds} batches {p.batches}\n",
              flush=True)
        return False


if __name__ == "__main__":
    main(*[int(a) if a.lstrip("-").isdigit() else a for a in sys.argv[1:]])

_ = pytest
