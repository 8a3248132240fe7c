"""Losses over few sampled classes instead of all (word embeddings): `tf.nn.nce_loss`, `sampled_softmax_loss`, the samplers.

A sampler returns (classes drawn [num_sampled], how often each true class was to be expected among them [batch, num_true],
the same of the drawn classes).  With `unique` classes are drawn until there are enough different ones.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from . import array_ops, graph, math_ops, random_ops, types
from .graph import Spec, Tensor
from .ops.contraction import matmul
from .ops.elementwise import stop_gradient
from .ops.opdef import convert_to_tensor, primitive

__all__ = ["all_candidate_sampler", "compute_accidental_hits", "fixed_unigram_candidate_sampler", "log_uniform_candidate_sampler",
           "nce_loss", "sampled_softmax_loss", "uniform_candidate_sampler"]


@primitive("host", effect="random", type="CandidateSampler", same=("weights",), dtypes=(types.float64,),
           input_dtypes={"key": (types.uint32,)},
           no_gradient="classes", infer=lambda weights, key, *, num_sampled, **_: [Spec(types.int64, (num_sampled,)), Spec(types.int64,
                                                                                                                           ())])
def candidate_sampler_op(weights, key, *, num_sampled, unique, range_max, distribution, seed=0, seed2=0):
    """(classes below `range_max`, number of draws): "uniform", "log_uniform", or by the `weights` of the classes ("fixed")."""


@candidate_sampler_op.reference
def _(weights, key, run, *, num_sampled, unique, range_max, distribution, **_):
    from .ops.random import _generator

    rng = _generator(key, run)
    edges = np.cumsum(weights)

    def draw(count: int) -> np.ndarray:
        u = rng.random(count)
        if distribution == "fixed":
            return np.searchsorted(edges, u * edges[-1], side="right").astype(np.int64)
        if distribution == "uniform":
            return np.minimum((u * range_max).astype(np.int64), range_max - 1)
        return np.minimum(np.expm1(u * np.log(range_max + 1.0)).astype(np.int64), range_max - 1)

    drawn = draw(num_sampled)
    if not unique:
        return drawn, np.int64(num_sampled)
    while True:
        first = np.sort(np.unique(drawn, return_index=True)[1])[:num_sampled]
        if len(first) == num_sampled:
            return drawn[first], np.int64(first[-1] + 1)
        drawn = np.concatenate([drawn, draw(len(drawn))])


def _sampler(distribution: str, probability: Any, true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int,
             seed: int | None, name: str, weights: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    true = math_ops.cast(true_classes, types.int64)
    possible = range_max if distribution != "fixed" else int(np.count_nonzero(weights))
    if unique and num_sampled > possible:
        raise ValueError(f"cannot sample {num_sampled} different classes of {possible}")
    if true.sizes is not None and (len(true.sizes) != 2 or types.same(true.sizes[1], num_true) is False):
        raise ValueError(f"true_classes must be a matrix with {num_true} column(s) (num_true), got shape {true.shape}")
    with graph.get_default_graph().name_scope(name):
        key, seeds = random_ops._keyed(seed)
        sampled, tries = candidate_sampler_op(convert_to_tensor(weights, types.float64), key, num_sampled=int(num_sampled),
                                              unique=bool(unique),
                                              range_max=int(range_max), distribution=distribution, **seeds)

        def expected(classes: Tensor) -> Tensor:
            p = probability(classes)
            if not unique:
                return math_ops.cast(p * float(num_sampled), types.float32)
            return math_ops.cast(-math_ops.expm1(math_ops.cast(tries, types.float64) * math_ops.log1p(-p)), types.float32)

        return sampled, expected(true), expected(sampled)


_NONE = np.zeros(0)


def uniform_candidate_sampler(true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, seed: int | None = None,
                              name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Each class equally often.  Raises ValueError when more different classes are asked for than there are."""
    return _sampler("uniform", lambda c: array_ops.fill(array_ops.shape(c), convert_to_tensor(1.0 / range_max, types.float64)),
                    true_classes, num_true, num_sampled, unique, range_max, seed, name or "UniformCandidateSampler", _NONE)


def log_uniform_candidate_sampler(true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, seed: int | None = None,
                                  name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Class k with probability log((k + 2) / (k + 1)) / log(range_max + 1): Zipf's law for classes sorted by frequency."""
    def probability(c: Tensor) -> Tensor:
        k = math_ops.cast(c, types.float64)
        return (math_ops.log(k + 2.0) - math_ops.log(k + 1.0)) / float(np.log(range_max + 1.0))
    return _sampler("log_uniform", probability, true_classes, num_true, num_sampled, unique, range_max, seed,
                    name or "LogUniformCandidateSampler", _NONE)


def fixed_unigram_candidate_sampler(true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, vocab_file: str = "",
                                    distortion: float = 1.0, num_reserved_ids: int = 0, num_shards: int = 1, shard: int = 0,
                                    unigrams: Sequence[float] = (), seed: int | None = None,
                                    name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Class k with probability proportional to its count ** distortion.

    Args:
        unigrams: the counts, after `num_reserved_ids` classes that are never drawn; or `vocab_file`, whose lines end in ",count".
        num_shards, shard: only classes k with k % num_shards == shard.

    Raises:
        ValueError: counts given twice or not at all, or not `range_max` of them.
    """
    counts = list(unigrams)
    if bool(vocab_file) == bool(counts):
        raise ValueError("Must provide either vocab_file or unigrams.")
    if vocab_file:
        with open(vocab_file, encoding="utf-8") as f:
            counts = [float(line.rsplit(",", 1)[-1]) for line in f if line.strip()]
    weights = np.concatenate([np.zeros(num_reserved_ids), np.asarray(counts, np.float64) ** distortion])
    if len(weights) != range_max:
        raise ValueError(f"there are {len(weights)} classes with counts, but range_max is {range_max}")
    weights = np.where(np.arange(range_max) % num_shards == shard, weights, 0)
    table = weights / weights.sum()
    return _sampler("fixed", lambda c: array_ops.gather(convert_to_tensor(table), c), true_classes, num_true, num_sampled, unique,
                    range_max,
                    seed, name or "FixedUnigramCandidateSampler", weights)


def all_candidate_sampler(true_classes: Any, num_true: int, num_sampled: int, unique: bool, seed: int | None = None,
                          name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The classes 0 to num_sampled - 1, each once: for comparing a sampled loss with the full one."""
    with graph.get_default_graph().name_scope(name or "AllCandidateSampler"):
        true = math_ops.cast(true_classes, types.int64)
        return (array_ops.range(convert_to_tensor(num_sampled, types.int64)), array_ops.ones_like(true, dtype=types.float32),
                array_ops.ones([num_sampled]))


def compute_accidental_hits(true_classes: Any, sampled_candidates: Any, num_true: int, seed: int | None = None,
                            name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Where sampled classes are among the true ones: (int32 row of `true_classes`, int64 place in the sample, -largest float32) of each."""
    with graph.get_default_graph().name_scope(name or "ComputeAccidentalHits"):
        true, sampled = (math_ops.cast(c, types.int64) for c in (true_classes, sampled_candidates))
        if true.sizes is not None and (len(true.sizes) != 2 or types.same(true.sizes[1], num_true) is False):
            raise ValueError(f"true_classes must be a matrix with {num_true} column(s) (num_true), got shape {true.shape}")
        at = array_ops.where(math_ops.equal(array_ops.expand_dims(true, 2), sampled))
        weights = array_ops.fill(array_ops.shape(at)[:1], float(-np.finfo(np.float32).max))
        return math_ops.cast(at[:, 0], types.int32), at[:, 2], weights


# ---------------------------------------------------------------- losses


def _sampled_logits(weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int, num_true: int,
                    sampled_values: Any, remove_accidental_hits: bool, partition_strategy: str, seed: int | None) -> tuple[Tensor, Tensor]:
    """Logits [batch, num_true + num_sampled] less log expected counts, and their targets (1 / num_true for the true ones)."""
    from . import nn

    inputs = convert_to_tensor(inputs)
    labels = math_ops.cast(labels, types.int64)
    if sampled_values is None:
        sampled_values = log_uniform_candidate_sampler(labels, num_true, num_sampled, True, num_classes, seed)
    sampled, expected_true, expected_sampled = (stop_gradient(convert_to_tensor(v)) for v in sampled_values)
    sampled = math_ops.cast(sampled, types.int64)

    def rows(table: Any, ids: Any) -> Tensor:
        return nn.embedding_lookup(table, ids, partition_strategy)

    flat = array_ops.reshape(labels, [-1])
    own = array_ops.reshape(rows(weights, flat), array_ops.concat([[-1, num_true], array_ops.shape(inputs)[1:]], 0))
    true = math_ops.reduce_sum(array_ops.expand_dims(inputs, 1) * own, 2) + array_ops.reshape(rows(biases, flat), [-1, num_true])
    others = matmul(inputs, rows(weights, sampled), transpose_b=True) + rows(biases, sampled)
    if remove_accidental_hits:
        hit = math_ops.reduce_any(math_ops.equal(array_ops.expand_dims(labels, 2), array_ops.reshape(sampled, [1, 1, -1])), 1)
        others = others - math_ops.cast(hit, others.dtype) * float(np.finfo(np.float32).max)
    true = true - math_ops.cast(math_ops.log(expected_true), true.dtype)
    others = others - math_ops.cast(math_ops.log(expected_sampled), others.dtype)
    logits = array_ops.concat([true, others], 1)
    targets = array_ops.concat([array_ops.ones_like(true) / float(num_true), array_ops.zeros_like(others)], 1)
    return logits, targets


def nce_loss(weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int, num_true: int = 1,
             sampled_values: Any = None, remove_accidental_hits: bool = False, partition_strategy: str = "mod",
             name: str = "nce_loss") -> Tensor:
    """Noise-contrastive loss of each row (Gutmann and Hyvarinen, 2010): true classes against sampled ones, by the logistic loss.

    Args:
        weights: [num_classes, dim], or a list of tensors that together are (see `embedding_lookup`).
        biases: [num_classes].
        labels: [batch, num_true], the true classes.
        inputs: [batch, dim].
        sampled_values: what a sampler returned; by default of `log_uniform_candidate_sampler`.
        remove_accidental_hits: a sampled class that is a true one of the row does not count.

    Returns:
        [batch] losses.
    """
    from . import nn

    with graph.get_default_graph().name_scope(name):
        logits, targets = _sampled_logits(weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values,
                                          remove_accidental_hits, partition_strategy, None)
        return math_ops.reduce_sum(nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits), 1)


def sampled_softmax_loss(weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int, num_true: int = 1,
                         sampled_values: Any = None, remove_accidental_hits: bool = True, partition_strategy: str = "mod",
                         name: str = "sampled_softmax_loss", seed: int | None = None) -> Tensor:
    """Softmax cross entropy of each row over its true classes and the sampled ones (Jean et al., 2014); arguments as `nce_loss`."""
    from . import nn

    with graph.get_default_graph().name_scope(name):
        logits, targets = _sampled_logits(weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values,
                                          remove_accidental_hits, partition_strategy, seed)
        return nn.softmax_cross_entropy_with_logits_v2(labels=stop_gradient(targets), logits=logits)
