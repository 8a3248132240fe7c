"""`tf.contrib.metrics`: those of `tf.metrics` under their older names with the predictions first, and a few more."""
from __future__ import annotations

import inspect
from typing import Any, Callable, NamedTuple

from .. import array_ops, graph, math_ops, metrics, nn, types
from ..check_ops import assert_greater_equal, assert_less_equal
from ..control_flow_ops import group
from ..graph import GraphKeys, Tensor
from ..metrics import confusion_matrix
from ..ops import state
from ..ops.elementwise import select
from ..ops.opdef import convert_to_tensor
from ..state_ops import scatter_add
from ..variable_scope import variable_scope
from ..variables import Variable
from . import _old_layout

__all__ = ["accuracy", "aggregate_metric_map", "aggregate_metrics", "cohen_kappa", "confusion_matrix", "count", "f1_score",
           "precision_at_recall", "precision_recall_at_equal_thresholds", "recall_at_precision", "sparse_recall_at_top_k",
           "streaming_concat", "streaming_covariance", "streaming_false_negative_rate", "streaming_false_negative_rate_at_thresholds",
           "streaming_false_positive_rate", "streaming_false_positive_rate_at_thresholds", "streaming_pearson_correlation",
           "streaming_recall_at_k"]

_TAIL = "weights=None metrics_collections=None updates_collections=None name=None"
_K = f"predictions labels k class_id=None {_TAIL}"
# name after "streaming_": (name in tf.metrics if it is another, arguments in order)
_STREAMING: dict[str, tuple[str, str]] = {
    **{name: (name, f"predictions labels {_TAIL}") for name in (
        "accuracy", "precision", "recall", "true_positives", "true_negatives", "false_positives", "false_negatives", "mean_absolute_error",
        "mean_squared_error", "root_mean_squared_error")},
    **{name: (name, f"predictions labels thresholds {_TAIL}") for name in ("precision_at_thresholds", "recall_at_thresholds")},
    **{name: (name, "predictions labels thresholds weights=None") for name in (
        "true_positives_at_thresholds", "true_negatives_at_thresholds", "false_positives_at_thresholds", "false_negatives_at_thresholds")},
    **{name: (name, f"values {_TAIL}") for name in ("mean", "mean_tensor")},
    "auc": ("auc", "predictions labels weights=None num_thresholds=200 metrics_collections=None updates_collections=None curve='ROC' "
            "name=None"),
    "mean_relative_error": ("mean_relative_error", f"predictions labels normalizer {_TAIL}"),
    "mean_cosine_distance": ("mean_cosine_distance", f"predictions labels dim {_TAIL}"),
    "mean_iou": ("mean_iou", f"predictions labels num_classes {_TAIL}"),
    "percentage_less": ("percentage_below", f"values threshold {_TAIL}"),
    "sparse_recall_at_k": ("recall_at_k", _K),
    "sparse_precision_at_k": ("precision_at_k", _K),
    "sparse_precision_at_top_k": ("precision_at_top_k", f"top_k_predictions labels class_id=None {_TAIL}"),
    "sparse_average_precision_at_k": ("average_precision_at_k", f"predictions labels k {_TAIL}"),
    "specificity_at_sensitivity": ("specificity_at_sensitivity", "predictions labels sensitivity weights=None num_thresholds=200 "
                                   "metrics_collections=None updates_collections=None name=None"),
    "sensitivity_at_specificity": ("sensitivity_at_specificity", "predictions labels specificity weights=None num_thresholds=200 "
                                   "metrics_collections=None updates_collections=None name=None"),
}
_RENAMED = {"top_k_predictions": "predictions_idx"}


def _streaming(name: str, target: str, arguments: str) -> Callable[..., tuple[Any, Any]]:
    """`tf.metrics.<target>`, its arguments in another order."""
    parameters = []
    for text in arguments.split():
        key, has_default, default = text.partition("=")
        value = inspect.Parameter.empty if not has_default else None if default == "None" else \
            default.strip("'") if default.startswith("'") else int(default)
        parameters.append(inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value))
    signature = inspect.Signature(parameters)

    def metric(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        bound = signature.bind(*args, **kwargs)
        return getattr(metrics, target)(**{_RENAMED.get(k, k): v for k, v in bound.arguments.items()})

    metric.__name__ = metric.__qualname__ = f"streaming_{name}"
    metric.__doc__ = f"`tf.metrics.{target}`, the predictions first."
    metric.__signature__ = signature  # type: ignore[attr-defined]
    return metric


for _name, (_target, _arguments) in _STREAMING.items():
    if hasattr(metrics, _target):
        globals()[f"streaming_{_name}"] = _streaming(_name, _target, _arguments)
        __all__.append(f"streaming_{_name}")


def accuracy(predictions: Any, labels: Any, weights: Any = None, name: str | None = None) -> Tensor:
    """The (weighted) share of predictions that equal the labels, in this batch: float32 scalar.

    Raises:
        ValueError: labels that are no integers, booleans or strings, or of another dtype than the predictions.
    """
    predictions, labels = convert_to_tensor(predictions), convert_to_tensor(labels)
    if not (labels.dtype.is_integer or labels.dtype in (types.bool_, types.string)):
        raise ValueError(f"Labels should have bool, integer, or string dtype, not {labels.dtype!r}")
    if labels.dtype is not predictions.dtype:
        raise ValueError(f"Dtypes of predictions and labels should match. Given: predictions ({predictions.dtype!r}) and labels "
                         f"({labels.dtype!r})")
    with graph.get_default_graph().name_scope(name or "accuracy"):
        right = math_ops.cast(math_ops.equal(predictions, labels), types.float32)
        if weights is None:
            return math_ops.reduce_mean(right)
        weights = math_ops.cast(weights, types.float32) * array_ops.ones_like(right)
        return math_ops.reduce_sum(right * weights) / math_ops.reduce_sum(weights)


def aggregate_metrics(*value_update_tuples: Any) -> tuple[list[Any], list[Any]]:
    """The values and the updates of several (value, update).  Raises ValueError for none."""
    if not value_update_tuples:
        raise ValueError("Expected at least one value_tensor/update_op pair")
    values, updates = zip(*value_update_tuples)
    return list(values), list(updates)


def aggregate_metric_map(names_to_tuples: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """{name: (value, update)} as {name: value} and {name: update}."""
    return {k: v[0] for k, v in names_to_tuples.items()}, {k: v[1] for k, v in names_to_tuples.items()}


# ---------------------------------------------------------------- more metrics


def _variable(name: str, shape: Any = (), dtype: Any = types.float32) -> Variable:
    return Variable(lambda: array_ops.zeros(shape, dtype), trainable=False, name=name,
                    collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES])


def _published(value: Any, update: Any, metrics_collections: Any, updates_collections: Any) -> tuple[Any, Any]:
    g = graph.get_default_graph()
    if metrics_collections:
        g.add_to_collections(metrics_collections, value)
    if updates_collections:
        g.add_to_collections(updates_collections, update)
    return value, update


def count(values: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
          name: str | None = None) -> tuple[Any, Any]:
    """How many values (or the sum of their weights) so far: (value, update)."""
    with variable_scope(name, "count"):
        total, values = _variable("count"), convert_to_tensor(values)
        ones = array_ops.ones_like(values, dtype=types.float32)
        more = math_ops.reduce_sum(ones if weights is None else ones * math_ops.cast(weights, types.float32))
        update = state.assign_add(total, more, name="update_op")
        return _published(array_ops.identity(total), update, metrics_collections, updates_collections)


def streaming_recall_at_k(predictions: Any, labels: Any, k: int, weights: Any = None, metrics_collections: Any = None,
                          updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The (weighted) share of class numbers [batch] among the k largest of predictions [batch, classes], so far: (value, update)."""
    found = math_ops.cast(nn.in_top_k(predictions, labels, k), types.float32)
    return metrics.mean(found, weights, metrics_collections, updates_collections, name or f"recall_at_{k}")


def _rate(part: str, rest: str, name: str) -> Callable[..., tuple[Any, Any]]:
    def metric(predictions: Any, labels: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
               name: str | None = None) -> tuple[Any, Any]:
        with variable_scope(name, default):
            a, update_a = getattr(metrics, part)(labels, predictions, weights)
            b, update_b = getattr(metrics, rest)(labels, predictions, weights)
            return _published(math_ops.div_no_nan(a, a + b, name="value"), math_ops.div_no_nan(update_a, update_a + update_b,
                                                                                               name="update_op"),
                              metrics_collections, updates_collections)
    default = name
    metric.__name__ = metric.__qualname__ = f"streaming_{name}"
    metric.__doc__ = f"{part} / ({part} + {rest}) so far, 0 without any: (value, update)."
    return metric


streaming_false_positive_rate = _rate("false_positives", "true_negatives", "false_positive_rate")
streaming_false_negative_rate = _rate("false_negatives", "true_positives", "false_negative_rate")


def _rate_at_thresholds(part: str, rest: str, name: str) -> Callable[..., tuple[Any, Any]]:
    def metric(predictions: Any, labels: Any, thresholds: Any, weights: Any = None, metrics_collections: Any = None,
               updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
        with variable_scope(name, default):
            (a, update_a), (b, update_b) = (getattr(metrics, f"{kind}_at_thresholds")(labels, predictions, thresholds, weights)
                                            for kind in (part, rest))
            return _published(a / (_SMALL + a + b), update_a / (_SMALL + update_a + update_b), metrics_collections, updates_collections)
    default = f"{name}_at_thresholds"
    metric.__name__ = metric.__qualname__ = f"streaming_{default}"
    metric.__doc__ = f"{part} / ({part} + {rest}) so far, for each threshold: (value, update)."
    return metric


_SMALL = 1e-7
streaming_false_positive_rate_at_thresholds = _rate_at_thresholds("false_positives", "true_negatives", "false_positive_rate")
streaming_false_negative_rate_at_thresholds = _rate_at_thresholds("false_negatives", "true_positives", "false_negative_rate")


def sparse_recall_at_top_k(labels: Any, top_k_predictions: Any, class_id: int | None = None, weights: Any = None,
                           metrics_collections: Any = None, updates_collections: Any = None,
                           name: str | None = None) -> tuple[Any, Any]:
    """`tf.metrics.recall_at_top_k`: the share of labels among the predicted classes [batch, k] so far: (value, update)."""
    return metrics.recall_at_top_k(labels, top_k_predictions, None, class_id, weights, metrics_collections, updates_collections, name)


def _even(num_thresholds: int) -> list[float]:
    """Thresholds that divide [0, 1] evenly, the first and the last just outside."""
    return [-_SMALL, *((i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)), 1.0 + _SMALL]


def _confusion(labels: Any, predictions: Any, thresholds: Any, weights: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Values and updates of (true positives, false positives, false negatives) at the thresholds."""
    found = [getattr(metrics, f"{kind}_at_thresholds")(labels, predictions, thresholds, weights)
             for kind in ("true_positives", "false_positives", "false_negatives")]
    return [f[0] for f in found], [f[1] for f in found]


def precision_at_recall(labels: Any, predictions: Any, target_recall: float, weights: Any = None, num_thresholds: int = 200,
                        metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The precision at the highest threshold whose recall is `target_recall` or more: (value, update).

    Raises:
        ValueError: `target_recall` lies outside [0, 1].
    """
    if not 0 <= target_recall <= 1:
        raise ValueError("`target_recall` must be in the range [0, 1].")
    with variable_scope(name, "precision_at_recall"):
        def at(parts: list[Tensor], name: str) -> Tensor:
            tp, fp, fn = parts
            enough = math_ops.cast(math_ops.greater_equal(tp / (tp + fn + _SMALL), target_recall), types.int32)
            i = math_ops.maximum(math_ops.reduce_sum(enough) - 1, 0)
            return math_ops.divide(tp[i] + _SMALL, tp[i] + fp[i] + _SMALL, name=name)

        values, updates = _confusion(labels, predictions, _even(num_thresholds), weights)
        return _published(at(values, "value"), at(updates, "update_op"), metrics_collections, updates_collections)


def recall_at_precision(labels: Any, predictions: Any, precision: float, weights: Any = None, num_thresholds: int = 200,
                        metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None,
                        strict_mode: bool = False) -> tuple[Any, Any]:
    """The recall at the threshold whose precision is nearest to `precision`: (value, update).

    Args:
        strict_mode: of the thresholds whose precision is `precision` or more, the largest recall; 0 without any.

    Raises:
        ValueError: `precision` lies outside [0, 1].
    """
    if not 0 <= precision <= 1:
        raise ValueError("`precision` must be in the range [0, 1].")
    with variable_scope(name, "recall_at_precision"):
        def at(parts: list[Tensor], name: str) -> Tensor:
            tp, fp, fn = parts
            precisions, recalls = math_ops.div_no_nan(tp, tp + fp + _SMALL), math_ops.div_no_nan(tp, tp + fn + _SMALL)
            if strict_mode:
                return math_ops.reduce_max(select(precisions >= precision, recalls, array_ops.zeros_like(recalls)), name=name)
            return array_ops.gather(recalls, math_ops.argmin(math_ops.abs(precisions - precision), 0), name=name)

        values, updates = _confusion(labels, predictions, _even(num_thresholds), weights)
        return _published(at(values, "value"), at(updates, "update_op"), metrics_collections, updates_collections)


class PrecisionRecallData(NamedTuple):
    """Counts, precision and recall at each threshold."""

    tp: Any
    fp: Any
    tn: Any
    fn: Any
    precision: Any
    recall: Any
    thresholds: Any


def precision_recall_at_equal_thresholds(labels: Any, predictions: Any, weights: Any = None, num_thresholds: int | None = None,
                                         use_locking: bool | None = None, name: str | None = None) -> tuple[PrecisionRecallData, Any]:
    """(counts, precision and recall so far at thresholds that divide [0, 1] evenly, update): time does not grow with their number.

    Args:
        labels: booleans; predictions: in [0, 1], of the same shape.
        num_thresholds: 201 by default.
    """
    n = num_thresholds or 201
    with variable_scope(name, "precision_recall_at_equal_thresholds"):
        labels, predictions = math_ops.cast(labels, types.bool_), convert_to_tensor(predictions)
        with graph.get_default_graph().control_dependencies([
                assert_greater_equal(predictions, math_ops.cast(0.0, predictions.dtype), message="predictions must be in [0, 1]"),
                assert_less_equal(predictions, math_ops.cast(1.0, predictions.dtype), message="predictions must be in [0, 1]")]):
            predictions = array_ops.identity(predictions)
        weight = math_ops.cast(1.0 if weights is None else weights, types.float64) * array_ops.ones_like(predictions, dtype=types.float64)
        positive = math_ops.cast(labels, types.float64) * weight
        place = math_ops.cast(math_ops.floor(array_ops.reshape(predictions, [-1]) * (n - 1)), types.int32)
        buckets = [_variable(v, [n], types.float64) for v in ("tp_buckets", "fp_buckets")]
        update = group(*[scatter_add(b, place, array_ops.reshape(x, [-1])) for b, x in zip(buckets, (positive, weight - positive))])
        tp, fp = (math_ops.cumsum(b.value(), reverse=True) for b in buckets)
        tn, fn = fp[0] - fp, tp[0] - tp
        found = (tp, fp, tn, fn, tp / math_ops.maximum(tp + fp, _SMALL), tp / math_ops.maximum(tp + fn, _SMALL))
        columns = [math_ops.cast(x, predictions.dtype) for x in (*found, array_ops.linspace(0.0, 1.0, n))]
        return PrecisionRecallData._make(columns), update


def streaming_concat(values: Any, axis: int = 0, max_size: int | None = None, metrics_collections: Any = None,
                     updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """All values so far, joined along `axis`, at most `max_size` of them: (value, an update that gives their number).

    Raises:
        ValueError: an unknown rank, an axis outside it, or unknown sizes along other axes.
    """
    with variable_scope(name, "streaming_concat"):
        values = convert_to_tensor(values)
        rank = values.shape.ndims
        if rank is None:
            raise ValueError("`values` must have known statically known rank")
        at = axis + rank if axis < 0 else axis
        if not 0 <= at < rank:
            raise ValueError(f"axis = {axis} not in [0, {rank})")
        sizes = values.shape.as_list()
        if any(n is None for i, n in enumerate(sizes) if i != at):
            raise ValueError("all dimensions of `values` other than the dimension to concatenate along must have statically known size")
        empty = [0 if i == at else n for i, n in enumerate(sizes)]
        array = Variable(lambda: array_ops.zeros(empty, values.dtype), False, [GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES],
                         validate_shape=False, name="array")
        joined = array_ops.concat([array.value(), values], at)
        if max_size is not None:
            joined = joined[(slice(None),) * at + (slice(0, max_size),)]
        written = state.assign(array, joined, validate_shape=False)
        value = array_ops.identity(array.value())
        value.set_shape([None if i == at else n for i, n in enumerate(sizes)])
        update = array_ops.identity(array_ops.shape(written)[at], name="update_op")
        return _published(value, update, metrics_collections, updates_collections)


def f1_score(labels: Any, predictions: Any, weights: Any = None, num_thresholds: int = 200, metrics_collections: Any = None,
             updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The best F1 score, 2 precision recall / (precision + recall), over thresholds of the predictions in [0, 1]: (value, update)."""
    with variable_scope(name, "f1"):
        def best(parts: list[Tensor], name: str) -> Tensor:
            tp, fp, fn = parts
            precision, recall = tp / (_SMALL + tp + fp), tp / (_SMALL + tp + fn)
            return math_ops.reduce_max(2.0 * precision * recall / (precision + recall + _SMALL), name=name)

        values, updates = _confusion(labels, predictions, _even(num_thresholds), weights)
        return _published(best(values, "value"), best(updates, "update_op"), metrics_collections, updates_collections)


def _weighted_batch(predictions: Any, labels: Any, weights: Any) -> tuple[Tensor, Tensor, Tensor]:
    p, q = (math_ops.cast(convert_to_tensor(x), types.float32) for x in (predictions, labels))
    if not p.shape.is_compatible_with(q.shape):
        raise ValueError(f"Shapes {p.shape} and {q.shape} are incompatible")
    return p, q, array_ops.ones_like(p) if weights is None else math_ops.cast(weights, types.float32) * array_ops.ones_like(p)


def streaming_covariance(predictions: Any, labels: Any, weights: Any = None, metrics_collections: Any = None,
                         updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The (weighted) sample covariance so far, divided by the count - 1: (value, update)."""
    with variable_scope(name, "covariance"):
        p, q, w = _weighted_batch(predictions, labels, weights)
        n, mean_p, mean_q, moment = (_variable(v) for v in ("count", "mean_prediction", "mean_label", "comoment"))
        more = math_ops.reduce_sum(w)
        total = n + more
        batch_p, batch_q = (math_ops.div_no_nan(math_ops.reduce_sum(x * w), more) for x in (p, q))
        # the moments of the batch around its own means, and of its means around those before (Chan et al. 1983)
        step_p, step_q = batch_p - mean_p, batch_q - mean_q
        inside = math_ops.reduce_sum((p - batch_p) * (q - batch_q) * w)
        new_moment = moment + inside + step_p * step_q * math_ops.div_no_nan(n * more, total)
        new_p, new_q = (mean + math_ops.div_no_nan(step * more, total) for mean, step in ((mean_p, step_p), (mean_q, step_q)))
        writes = [state.assign(v, x) for v, x in ((moment, new_moment), (mean_p, new_p), (mean_q, new_q), (n, total))]
        with graph.get_default_graph().control_dependencies([x.op for x in writes]):
            update = select(total > 1.0, math_ops.div_no_nan(new_moment, total - 1.0), array_ops.zeros_like(total), name="update_op")
        value = select(n > 1.0, math_ops.div_no_nan(moment.value(), n - 1.0), array_ops.zeros_like(n.value()), name="covariance")
        return _published(value, update, metrics_collections, updates_collections)


def streaming_pearson_correlation(predictions: Any, labels: Any, weights: Any = None, metrics_collections: Any = None,
                                  updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The correlation so far, from three covariances; NaN as long as one is 0: (value, update)."""
    with variable_scope(name, "pearson_r"):
        parts = [streaming_covariance(*pair, weights=weights, name=what) for pair, what in (
            ((predictions, labels), "covariance"), ((predictions, predictions), "variance_predictions"), ((labels, labels),
                                                                                                         "variance_labels"))]
        value, update = ((cov / (math_ops.sqrt(a) * math_ops.sqrt(b))) for cov, a, b in (tuple(p[i] for p in parts) for i in (0, 1)))
        return _published(value, update, metrics_collections, updates_collections)


def cohen_kappa(labels: Any, predictions_idx: Any, num_classes: int, weights: Any = None, metrics_collections: Any = None,
                updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """How far class numbers agree beyond chance, so far: (agreement - expected) / (1 - expected) (Cohen 1960): (value, update).

    Raises:
        ValueError: fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be >= 2.Found: {num_classes}")
    with variable_scope(name, "cohen_kappa"):
        labels, predictions = (array_ops.reshape(math_ops.cast(x, types.int64), [-1]) for x in (labels, predictions_idx))
        given = None if weights is None else array_ops.reshape(math_ops.cast(weights, types.float32), [-1])
        matrix = _variable("confusion", [num_classes, num_classes])
        seen = confusion_matrix(labels, predictions, num_classes, types.float32, weights=given)

        def kappa(m: Tensor, name: str) -> Tensor:
            total = math_ops.reduce_sum(m)
            expected = math_ops.div_no_nan(math_ops.reduce_sum(math_ops.reduce_sum(m, 0) * math_ops.reduce_sum(m, 1)), total)
            agreed = math_ops.reduce_sum(array_ops.diag_part(m))
            return select(total > 0, (agreed - expected) / (total - expected), float("nan"), name=name)

        update = state.assign_add(matrix, seen)
        return _published(kappa(matrix.value(), "value"), kappa(update, "update_op"), metrics_collections, updates_collections)


def _set_function(name: str) -> Any:
    """Set operations live in `tf.sets`."""
    if name in ("set_difference", "set_intersection", "set_size", "set_union"):
        import importlib

        return getattr(importlib.import_module("..sets", __package__), name)
    from .. import errors

    raise AttributeError(f"module 'graphflow.contrib.metrics' has no attribute {name!r}.{errors.suggest(name, __all__)}")


__getattr__ = _old_layout(__name__, _set_function)
