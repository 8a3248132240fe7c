"""Signatures: what a model takes and gives, by names that clients know."""
from __future__ import annotations

from typing import Any

from .. import types
from ..ops.opdef import convert_to_tensor
from ..proto import SignatureDef
from . import signature_constants as names
from .utils import build_tensor_info

__all__ = ["build_signature_def", "classification_signature_def", "is_valid_signature", "predict_signature_def",
           "regression_signature_def"]


def build_signature_def(inputs: Any = None, outputs: Any = None, method_name: str | None = None) -> Any:
    """A `SignatureDef` of `TensorInfo`s by name."""
    found = SignatureDef()
    for field, infos in ((found.inputs, inputs), (found.outputs, outputs)):
        for key, info in (infos or {}).items():
            field[key].CopyFrom(info)
    if method_name is not None:
        found.method_name = method_name
    return found


def _strings(examples: Any, what: str) -> Any:
    t = convert_to_tensor(examples)
    if t.dtype is not types.string:
        raise ValueError(f"{what} input tensors must be of type string. Found tensor: {t.name} of type {t.dtype.name}")
    return build_tensor_info(t)


def regression_signature_def(examples: Any, predictions: Any) -> Any:
    """From strings, serialised Examples, to float32 predictions.  Raises ValueError for None or another dtype."""
    if examples is None or predictions is None:
        raise ValueError("Regression `examples` and `predictions` cannot be None.")
    output = convert_to_tensor(predictions)
    if output.dtype is not types.float32:
        raise ValueError(f"Regression output tensors must be of type float32. Found tensor: {output.name} of type {output.dtype.name}")
    return build_signature_def({names.REGRESS_INPUTS: _strings(examples, "Regression")},
                               {names.REGRESS_OUTPUTS: build_tensor_info(output)}, names.REGRESS_METHOD_NAME)


def classification_signature_def(examples: Any, classes: Any, scores: Any) -> Any:
    """From strings, serialised Examples, to classes (strings), scores (float32), or both.  Raises ValueError for none of these."""
    if examples is None:
        raise ValueError("Classification `examples` cannot be None.")
    if classes is None and scores is None:
        raise ValueError("Classification `classes` and `scores` cannot both be None.")
    outputs = {}
    if classes is not None:
        outputs[names.CLASSIFY_OUTPUT_CLASSES] = _strings(classes, "Classification classes")
    if scores is not None:
        t = convert_to_tensor(scores)
        if t.dtype is not types.float32:
            raise ValueError(f"Classification scores tensors must be of type float32. Found tensor: {t.name} of type {t.dtype.name}")
        outputs[names.CLASSIFY_OUTPUT_SCORES] = build_tensor_info(t)
    return build_signature_def({names.CLASSIFY_INPUTS: _strings(examples, "Classification")}, outputs, names.CLASSIFY_METHOD_NAME)


def predict_signature_def(inputs: Any, outputs: Any) -> Any:
    """From tensors by name to tensors by name.  Raises ValueError when there are none."""
    if not inputs:
        raise ValueError("Prediction `inputs` cannot be None or empty.")
    if not outputs:
        raise ValueError("Prediction `outputs` cannot be None or empty.")
    return build_signature_def({k: build_tensor_info(t) for k, t in inputs.items()}, {k: build_tensor_info(t) for k, t in outputs.items()},
                               names.PREDICT_METHOD_NAME)


def is_valid_signature(signature_def: Any) -> bool:
    """Whether the inputs and outputs are what the signature's method wants."""
    if signature_def is None:
        return False
    inputs, outputs = ({k: v.dtype for k, v in m.items()} for m in (signature_def.inputs, signature_def.outputs))
    text, number = types.string.as_datatype_enum, types.float32.as_datatype_enum
    if signature_def.method_name == names.PREDICT_METHOD_NAME:
        return bool(inputs) and bool(outputs)
    if signature_def.method_name == names.REGRESS_METHOD_NAME:
        return inputs == {names.REGRESS_INPUTS: text} and outputs == {names.REGRESS_OUTPUTS: number}
    if signature_def.method_name == names.CLASSIFY_METHOD_NAME:
        allowed = {names.CLASSIFY_OUTPUT_CLASSES: text, names.CLASSIFY_OUTPUT_SCORES: number}
        return inputs == {names.CLASSIFY_INPUTS: text} and bool(outputs) and outputs.items() <= allowed.items()
    return False
