"""`tf.metrics`: statistics over many runs, kept in local variables.

Each function returns (value, update_op): running `update_op` takes the current batch into account and gives the new value;
`value` reads it.  The variables are in LOCAL_VARIABLES and METRIC_VARIABLES: `tf.local_variables_initializer()` sets them to
zero.  `weights` of every metric scales each element: a number, or a tensor of the values' rank with sizes 1 or theirs.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

from . import array_ops, check_ops, control_flow_ops, errors, graph, math_ops, state_ops, types
from .graph import GraphKeys, Tensor
from .losses import _check_weights
from .ops import state
from .ops.elementwise import select
from .ops.opdef import convert_to_tensor
from .variable_scope import variable_scope
from .variables import Variable

__all__ = ["accuracy", "auc", "confusion_matrix", "false_negatives", "false_negatives_at_thresholds", "false_positives",
           "false_positives_at_thresholds", "mean", "mean_absolute_error", "mean_cosine_distance", "mean_iou", "mean_per_class_accuracy",
           "mean_relative_error", "mean_squared_error", "mean_tensor", "percentage_below", "precision", "precision_at_thresholds", "recall",
           "recall_at_thresholds", "root_mean_squared_error", "sensitivity_at_specificity", "specificity_at_sensitivity",
           "true_negatives", "true_negatives_at_thresholds", "true_positives",
           "true_positives_at_thresholds"]

_RANKED = ("average_precision_at_k", "precision_at_k", "precision_at_top_k", "recall_at_k", "recall_at_top_k",
           "sparse_average_precision_at_k", "sparse_precision_at_k")  # of metrics_at_k.py
__all__ += _RANKED
EPSILON = 1e-7


# ---------------------------------------------------------------- what they share


def _variable(shape: Any, dtype: types.DType, name: str) -> Variable:
    """A local variable of zeros."""
    return Variable(lambda: array_ops.zeros(shape, dtype), trainable=False, name=name,
                    collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES])


def _published(value: Any, update: Any, metrics_collections: Any, updates_collections: Any) -> tuple[Any, Any]:
    g = graph.get_default_graph()
    if metrics_collections:
        g.add_to_collections(metrics_collections, value)
    if updates_collections:
        g.add_to_collections(updates_collections, update)
    return value, update


def _float(x: Any) -> Tensor:
    x = convert_to_tensor(x)
    return x if x.dtype is types.float32 else math_ops.cast(x, types.float32)


def _bool(x: Any) -> Tensor:
    x = convert_to_tensor(x)
    return x if x.dtype is types.bool_ else math_ops.cast(x, types.bool_)


def _alike(predictions: Any, labels: Any, weights: Any = None) -> tuple[Tensor, Tensor, Any]:
    """With a last dimension of 1 taken away, or given to the weights, where ranks differ by one."""
    predictions, labels = convert_to_tensor(predictions), convert_to_tensor(labels)
    if predictions.sizes is not None and labels.sizes is not None:
        if len(predictions.sizes) - len(labels.sizes) == 1:
            predictions = array_ops.squeeze(predictions, [-1])
        elif len(labels.sizes) - len(predictions.sizes) == 1:
            labels = array_ops.squeeze(labels, [-1])
    if not predictions.shape.is_compatible_with(labels.shape):
        raise ValueError(f"Shapes {predictions.shape} and {labels.shape} are incompatible")
    if weights is not None:
        weights = convert_to_tensor(weights)
        if weights.sizes and predictions.sizes is not None:
            if len(weights.sizes) - len(predictions.sizes) == 1:
                weights = array_ops.squeeze(weights, [-1])
            elif len(predictions.sizes) - len(weights.sizes) == 1:
                weights = array_ops.expand_dims(weights, -1)
    return predictions, labels, weights


def _spread(weights: Any, values: Tensor) -> Tensor:
    """The weights as a tensor of the values' shape.  Raises ValueError when they do not fit."""
    weights = _float(weights)
    _check_weights(weights, values)
    return weights * array_ops.ones_like(values)


def _ratio(a: Any, b: Any, name: str | None = None) -> Tensor:
    return math_ops.div_no_nan(a, b, name=name)


# ---------------------------------------------------------------- means


def mean(values: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
         name: str | None = None) -> tuple[Any, Any]:
    """The weighted mean of all elements seen."""
    with variable_scope(name, "mean"):
        values = _float(values)
        total, count = _variable([], types.float32, "total"), _variable([], types.float32, "count")
        if weights is None:
            number = math_ops.cast(array_ops.size(values), types.float32)
        else:
            values, _, weights = _alike(values, values, weights)
            weights = _spread(weights, values)
            values, number = values * weights, math_ops.reduce_sum(weights)
        update = _ratio(state.assign_add(total, math_ops.reduce_sum(values)), state.assign_add(count, number), "update_op")
        return _published(_ratio(total, count, "value"), update, metrics_collections, updates_collections)


def mean_tensor(values: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
                name: str | None = None) -> tuple[Any, Any]:
    """The mean over runs of each element of `values`, whose shape must be known."""
    with variable_scope(name, "mean"):
        values = _float(values)
        total, count = _variable(values.shape, types.float32, "total_tensor"), _variable(values.shape, types.float32, "count_tensor")
        number = array_ops.ones_like(values)
        if weights is not None:
            values, _, weights = _alike(values, values, weights)
            number = _spread(weights, values)
            values = values * number
        update = _ratio(state.assign_add(total, values), state.assign_add(count, number), "update_op")
        return _published(_ratio(total, count, "value"), update, metrics_collections, updates_collections)


def accuracy(labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
             name: str | None = None) -> tuple[Any, Any]:
    """How often `predictions` equals `labels`."""
    predictions, labels, weights = _alike(predictions, labels, weights)
    if predictions.dtype is not labels.dtype:
        predictions = math_ops.cast(predictions, labels.dtype)
    return mean(_float(math_ops.equal(predictions, labels)), weights, metrics_collections, updates_collections, name or "accuracy")


def mean_absolute_error(labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
                        updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The mean of |predictions - labels|."""
    predictions, labels, weights = _alike(_float(predictions), _float(labels), weights)
    return mean(math_ops.abs(predictions - labels), weights, metrics_collections, updates_collections, name or "mean_absolute_error")


def mean_squared_error(labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
                       updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The mean of (predictions - labels)^2."""
    predictions, labels, weights = _alike(_float(predictions), _float(labels), weights)
    return mean(math_ops.square(labels - predictions), weights, metrics_collections, updates_collections, name or "mean_squared_error")


def root_mean_squared_error(labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None,
                            updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The square root of the mean of (predictions - labels)^2."""
    value, update = mean_squared_error(labels, predictions, weights, None, None, name or "root_mean_squared_error")
    return _published(math_ops.sqrt(value), math_ops.sqrt(update), metrics_collections, updates_collections)


def mean_relative_error(labels: Any, predictions: Any, normalizer: Any, weights: Any = None, metrics_collections: Any = None,
                        updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The mean of |predictions - labels| / normalizer, 0 where the normalizer is."""
    predictions, labels, weights = _alike(_float(predictions), _float(labels), weights)
    error = _ratio(math_ops.abs(labels - predictions), _alike(predictions, _float(normalizer))[1])
    return mean(error, weights, metrics_collections, updates_collections, name or "mean_relative_error")


def mean_cosine_distance(labels: Any, predictions: Any, dim: int, weights: Any = None, metrics_collections: Any = None,
                         updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """1 - the mean of the products summed over `dim`; both inputs must be of length 1 there."""
    predictions, labels, weights = _alike(_float(predictions), _float(labels), weights)
    product = math_ops.reduce_sum(predictions * labels, axis=[dim], keepdims=True)
    value, update = mean(product, weights, None, None, name or "mean_cosine_distance")
    return _published(1 - value, 1 - update, metrics_collections, updates_collections)


def percentage_below(values: Any, threshold: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
                     name: str | None = None) -> tuple[Any, Any]:
    """The share of `values` below `threshold`."""
    below = _float(math_ops.less(values, threshold))
    return mean(below, weights, metrics_collections, updates_collections, name or "percentage_below_threshold")


# ---------------------------------------------------------------- counts of right and wrong


def _counter(label: bool, prediction: bool, what: str) -> Callable[..., tuple[Any, Any]]:
    def metric(labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
               name: str | None = None) -> tuple[Any, Any]:
        with variable_scope(name, what):
            predictions, labels, weights = _alike(_bool(predictions), _bool(labels), weights)
            hit = _float(math_ops.logical_and(math_ops.equal(labels, label), math_ops.equal(predictions, prediction)))
            count = _variable([], types.float32, "count")
            if weights is not None:
                hit = hit * _spread(weights, hit)
            update = state.assign_add(count, math_ops.reduce_sum(hit), name="update_op")
            return _published(array_ops.identity(count), update, metrics_collections, updates_collections)
    metric.__name__ = metric.__qualname__ = what
    metric.__doc__ = f"The weighted number of {what.replace('_', ' ')}; labels and predictions are cast to bool."
    return metric


true_positives, false_positives = _counter(True, True, "true_positives"), _counter(False, True, "false_positives")
false_negatives, true_negatives = _counter(True, False, "false_negatives"), _counter(False, False, "true_negatives")


def _share(other: Callable[..., Any], what: str, text: str) -> Callable[..., tuple[Any, Any]]:
    def metric(labels: Any, predictions: Any, weights: Any = None, metrics_collections: Any = None, updates_collections: Any = None,
               name: str | None = None) -> tuple[Any, Any]:
        with variable_scope(name, what):
            hits, update_hits = true_positives(labels, predictions, weights)
            others, update_others = other(labels, predictions, weights)
            value, update = _ratio(hits, hits + others, "value"), _ratio(update_hits, update_hits + update_others, "update_op")
            return _published(value, update, metrics_collections, updates_collections)
    metric.__name__ = metric.__qualname__ = what
    metric.__doc__ = text
    return metric


precision = _share(false_positives, "precision", "The share of positive predictions that are right; 0 when there are none.")
recall = _share(false_negatives, "recall", "The share of positive labels that were found; 0 when there are none.")


# ---------------------------------------------------------------- at thresholds


def _at_thresholds(labels: Any, predictions: Any, thresholds: Sequence[float], weights: Any,
                   kinds: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Counts "tp", "fn", "tn", "fp" for `prediction > threshold`, one for each threshold, and their updates."""
    predictions, labels, weights = _alike(_float(predictions), _bool(labels), weights)
    bounds = [check_ops.assert_greater_equal(predictions, 0.0, message="predictions must be in [0, 1]"),
              check_ops.assert_less_equal(predictions, 1.0, message="predictions must be in [0, 1]")]
    predictions = control_flow_ops.with_dependencies(bounds, predictions)
    scale = None if weights is None else array_ops.reshape(_spread(weights, predictions), [1, -1])
    limits = convert_to_tensor([[t] for t in thresholds], types.float32)
    positive = math_ops.greater(array_ops.reshape(predictions, [1, -1]), limits)  # [thresholds, elements]
    label = array_ops.reshape(labels, [1, -1])
    values, updates = {}, {}
    for kind in kinds:
        name = {"tp": "true_positives", "fn": "false_negatives", "tn": "true_negatives", "fp": "false_positives"}[kind]
        truth = label if kind in ("tp", "fn") else math_ops.logical_not(label)
        said = positive if kind in ("tp", "fp") else math_ops.logical_not(positive)
        hits = _float(math_ops.logical_and(truth, said))
        counts = _variable([len(thresholds)], types.float32, name)
        updates[kind] = state.assign_add(counts, math_ops.reduce_sum(hits if scale is None else hits * scale, 1))
        values[kind] = array_ops.identity(counts)
    return values, updates


def _threshold_counter(kind: str, what: str) -> Callable[..., tuple[Any, Any]]:
    def metric(labels: Any, predictions: Any, thresholds: Any, weights: Any = None, metrics_collections: Any = None,
               updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
        with variable_scope(name, what):
            values, updates = _at_thresholds(labels, predictions, thresholds, weights, (kind,))
            return _published(values[kind], updates[kind], metrics_collections, updates_collections)
    metric.__name__ = metric.__qualname__ = f"{what}_at_thresholds"
    metric.__doc__ = f"The weighted number of {what.replace('_', ' ')} for `predictions > t`, for each t of `thresholds`."
    return metric


true_positives_at_thresholds = _threshold_counter("tp", "true_positives")
false_positives_at_thresholds = _threshold_counter("fp", "false_positives")
true_negatives_at_thresholds = _threshold_counter("tn", "true_negatives")
false_negatives_at_thresholds = _threshold_counter("fn", "false_negatives")


def _threshold_share(kind: str, what: str) -> Callable[..., tuple[Any, Any]]:
    def metric(labels: Any, predictions: Any, thresholds: Any, weights: Any = None, metrics_collections: Any = None,
               updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
        with variable_scope(name, f"{what}_at_thresholds"):
            found = _at_thresholds(labels, predictions, thresholds, weights, ("tp", kind))
            value, update = (c["tp"] / (EPSILON + c["tp"] + c[kind]) for c in found)
            return _published(value, update, metrics_collections, updates_collections)
    metric.__name__ = metric.__qualname__ = f"{what}_at_thresholds"
    metric.__doc__ = f"The {what} of `predictions > t`, for each t of `thresholds`."
    return metric


precision_at_thresholds, recall_at_thresholds = _threshold_share("fp", "precision"), _threshold_share("fn", "recall")


def _at_the_other(what: str, given: str, index: Callable[[Tensor, float], Tensor], pick: str) -> Callable[..., tuple[Any, Any]]:
    """`what` at the threshold whose `given` rate is nearest to a number."""
    def metric(labels: Any, predictions: Any, wanted: float, weights: Any = None, num_thresholds: int = 200,
               metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
        if wanted < 0 or wanted > 1:
            raise ValueError(f"`{given}` must be in the range [0, 1]. Currently, `{given}` is {wanted}.")
        inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
        with variable_scope(name, f"{what}_at_{given}"):
            last = 1 + EPSILON if given == "specificity" else 1 - EPSILON
            found = _at_thresholds(labels, predictions, [-EPSILON, *inner, last], weights, ("tp", "fn", "tn", "fp"))
            value, update = (_rate_at(c, given, pick, index, wanted, n) for c, n in zip(found, ("value", "update_op")))
            return _published(value, update, metrics_collections, updates_collections)
    return metric


def _rate_at(c: dict[str, Any], given: str, pick: str, index: Any, wanted: float, name: str) -> Tensor:
    """true / (true + false + EPSILON) at the threshold that `index` chooses by the other rate."""
    rates = {"sensitivity": (c["tp"], c["fn"]), "specificity": (c["tn"], c["fp"])}
    right, wrong = rates[given]
    place = index(math_ops.abs(right / (right + wrong + EPSILON) - wanted), wanted)
    right, wrong = (array_ops.gather(t, place) for t in rates[pick])
    return math_ops.truediv(right, right + wrong + EPSILON, name=name)


def _last_least(x: Tensor, wanted: float) -> Tensor:
    """The last of the smallest elements."""
    least = math_ops.cast(math_ops.equal(x, math_ops.reduce_min(x)), types.int64)
    return math_ops.argmax(math_ops.cumsum(least), 0)


_sensitivity = _at_the_other("sensitivity", "specificity", lambda x, wanted: math_ops.argmin(x, 0), "sensitivity")
_specificity = _at_the_other("specificity", "sensitivity", _last_least, "specificity")


def sensitivity_at_specificity(labels: Any, predictions: Any, specificity: float, weights: Any = None, num_thresholds: int = 200,
                               metrics_collections: Any = None, updates_collections: Any = None,
                               name: str | None = None) -> tuple[Any, Any]:
    """The recall of positives at the threshold where the recall of negatives is nearest to `specificity`.

    Raises:
        ValueError: `specificity` outside [0, 1].  InvalidArgumentError (at run time): predictions outside [0, 1].
    """
    return _sensitivity(labels, predictions, specificity, weights, num_thresholds, metrics_collections, updates_collections, name)


def specificity_at_sensitivity(labels: Any, predictions: Any, sensitivity: float, weights: Any = None, num_thresholds: int = 200,
                               metrics_collections: Any = None, updates_collections: Any = None,
                               name: str | None = None) -> tuple[Any, Any]:
    """The recall of negatives at the (highest) threshold where the recall of positives is nearest to `sensitivity`.

    Raises:
        ValueError: `sensitivity` outside [0, 1].  InvalidArgumentError (at run time): predictions outside [0, 1].
    """
    return _specificity(labels, predictions, sensitivity, weights, num_thresholds, metrics_collections, updates_collections, name)


def auc(labels: Any, predictions: Any, weights: Any = None, num_thresholds: int = 200, metrics_collections: Any = None,
        updates_collections: Any = None, curve: str = "ROC", name: str | None = None, summation_method: str = "trapezoidal",
        thresholds: Any = None) -> tuple[Any, Any]:
    """The area under the ROC or the precision-recall curve, approximated at `num_thresholds` points.

    Args:
        predictions: numbers in [0, 1].
        curve: "ROC" or "PR".
        summation_method: "trapezoidal", "minoring", "majoring", or for PR "careful_interpolation" (Davis and Goadrich, 2006).

    Raises:
        ValueError: an unknown curve or method.  InvalidArgumentError (at run time): predictions outside [0, 1].
    """
    if curve not in ("ROC", "PR"):
        raise ValueError(f"curve must be either ROC or PR, {curve} unknown")
    if summation_method not in ("trapezoidal", "minoring", "majoring", "careful_interpolation"):
        raise ValueError(f"Invalid summation_method: {summation_method}")
    if summation_method == "careful_interpolation" and curve != "PR":
        raise ValueError(f"careful_interpolation is for the PR curve, not for {curve}")
    inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)] if thresholds is None else sorted(thresholds)
    with variable_scope(name, "auc"):
        found = _at_thresholds(labels, predictions, [-EPSILON, *inner, 1 + EPSILON], weights, ("tp", "fn", "tn", "fp"))
        value, update = (_area(c, curve, summation_method, n) for c, n in zip(found, ("value", "update_op")))
        return _published(value, update, metrics_collections, updates_collections)


def _area(c: dict[str, Any], curve: str, method: str, name: str) -> Tensor:
    tp, fn, tn, fp = c["tp"], c["fn"], c["tn"], c["fp"]
    small = 1e-6
    if method == "careful_interpolation":
        return _interpolated(tp, fp, fn, name)
    found = (tp + small) / (tp + fn + small)
    x, y = (fp / (fp + tn + small), found) if curve == "ROC" else (found, (tp + small) / (tp + fp + small))
    low, high = y[1:], y[:-1]
    height = {"trapezoidal": lambda: (low + high) / 2.0, "minoring": lambda: math_ops.minimum(low, high),
              "majoring": lambda: math_ops.maximum(low, high)}[method]()
    return math_ops.reduce_sum((x[:-1] - x[1:]) * height, name=name)


def _interpolated(tp: Tensor, fp: Tensor, fn: Tensor, name: str) -> Tensor:
    """Between two thresholds the true positives grow linearly with the positives: the integral of that precision."""
    p = tp + fp
    gained = tp[:-1] - tp[1:]
    slope = _ratio(gained, math_ops.maximum(p[:-1] - p[1:], 0.0))
    intercept = tp[1:] - slope * p[1:]
    both = math_ops.logical_and(p[:-1] > 0.0, p[1:] > 0.0)
    ratio = select(both, _ratio(p[:-1], math_ops.maximum(p[1:], 0.0)), array_ops.ones_like(p[1:]))
    area = _ratio(slope * (gained + intercept * math_ops.log(ratio)), math_ops.maximum(tp[1:] + fn[1:], 0.0))
    return math_ops.reduce_sum(area, name=name)


# ---------------------------------------------------------------- by class


def confusion_matrix(labels: Any, predictions: Any, num_classes: Any = None, dtype: Any = types.int32, name: str | None = None,
                     weights: Any = None) -> Tensor:
    """How often each label (row) was predicted as each class (column).

    Args:
        num_classes: the size of the result; by default as large as the classes need.
        weights: what each pair counts.

    Raises:
        InvalidArgumentError (at run time): a class that is negative or too large.
    """
    with graph.get_default_graph().name_scope(name or "confusion_matrix"):
        predictions, labels, _ = _alike(predictions, labels)
        labels, predictions = math_ops.cast(labels, types.int64), math_ops.cast(predictions, types.int64)
        if num_classes is None:
            num_classes = math_ops.maximum(math_ops.reduce_max(predictions), math_ops.reduce_max(labels)) + 1
        size = math_ops.cast(num_classes, types.int64)
        dtype = types.as_dtype(dtype)
        if weights is None:
            values = array_ops.ones_like(labels, dtype=dtype)
        else:
            values = math_ops.cast(weights, dtype)
            if not values.shape.is_compatible_with(labels.shape):
                raise ValueError(f"Shapes {labels.shape} and {values.shape} are incompatible")
        cells = array_ops.stack([labels, predictions], axis=1)
        return array_ops.scatter_nd(cells, values, array_ops.stack([size, size]))


def mean_iou(labels: Any, predictions: Any, num_classes: int, weights: Any = None, metrics_collections: Any = None,
             updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The mean over classes of true positives / (true positives + false positives + false negatives).

    The update is that of the confusion matrix, as in TF1; classes that never occur do not count.
    """
    with variable_scope(name, "mean_iou"):
        predictions, labels, weights = _alike(predictions, labels, weights)
        total = _variable([num_classes, num_classes], types.float64, "total_confusion_matrix")
        flat = [array_ops.reshape(t, [-1]) for t in (labels, predictions)]
        scale = None if weights is None else array_ops.reshape(weights, [-1])
        update = state.assign_add(total, confusion_matrix(flat[0], flat[1], num_classes, types.float64, weights=scale), name="update_op")
        cells = _float(array_ops.identity(total))
        hits = array_ops.diag_part(cells)
        union = math_ops.reduce_sum(cells, 0) + math_ops.reduce_sum(cells, 1) - hits
        seen = math_ops.reduce_sum(_float(math_ops.not_equal(union, 0.0)))
        value = _ratio(math_ops.reduce_sum(_ratio(hits, union)), seen, "mean_iou")
        return _published(value, update, metrics_collections, updates_collections)


def mean_per_class_accuracy(labels: Any, predictions: Any, num_classes: int, weights: Any = None, metrics_collections: Any = None,
                            updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The mean over classes of the accuracy within each; the update gives the accuracy of each class, as in TF1."""
    with variable_scope(name, "mean_accuracy"):
        predictions, labels, weights = _alike(predictions, labels, weights)
        labels = array_ops.reshape(math_ops.cast(labels, types.int64), [-1])
        predictions = array_ops.reshape(math_ops.cast(predictions, types.int64), [-1])
        total, count = _variable([num_classes], types.float32, "total"), _variable([num_classes], types.float32, "count")
        each = array_ops.ones_like(labels, dtype=types.float32)
        right = _float(math_ops.equal(labels, predictions))
        if weights is not None:
            scale = array_ops.reshape(_float(weights), [-1])
            each, right = each * scale, right * scale
        update_total = state_ops.scatter_add(total, labels, each)
        update = _ratio(state_ops.scatter_add(count, labels, right), update_total, "update_op")
        value = math_ops.reduce_mean(_ratio(count, total), name="mean_accuracy")
        return _published(value, update, metrics_collections, updates_collections)


def __getattr__(name: str) -> Any:
    """The metrics of rankings are loaded when one of them is asked for first."""
    if name in _RANKED:
        from . import metrics_at_k

        return getattr(metrics_at_k, name)
    raise AttributeError(f"module 'graphflow.metrics' has no attribute {name!r}.{errors.suggest(name, __dir__())}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_RANKED})
