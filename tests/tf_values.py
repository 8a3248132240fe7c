"""Calls of many public names, and what TensorFlow gives for them: `tests/golden/tf_values.json`.

`python tests/tf_values.py` in an environment with TensorFlow 2 writes that file again.  Tests read it (tests/test_tf_values.py) and need
no TensorFlow.  A call is an expression of `tf`, `np` and `u`; it gives a tensor, or a list or tuple of them.
"""
from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).parent / "golden" / "tf_values.json"


def u(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0, dtype: str = "float32") -> np.ndarray:
    """Random numbers that are the same everywhere."""
    return np.random.RandomState(seed).uniform(low, high, shape).astype(dtype)


# Arguments that TensorFlow 2 wants for 1.15's behaviour.
_ONLY_TF = {"matrix_diag": "align='LEFT_LEFT'", "matrix_diag_part": "align='LEFT_LEFT'", "matrix_set_diag": "align='LEFT_LEFT'"}

CASES = """
tf.matrix_diag([1.,2.,3.], k=1)
tf.matrix_diag([1.,2.,3.], k=-2, padding_value=9.)
tf.matrix_diag(u(2,2,3), k=(-1,0))
tf.matrix_diag(u(2,2,3), k=(0,1), num_rows=3, num_cols=4)
tf.matrix_diag([1.,2.], num_rows=2, num_cols=3)
tf.matrix_diag(u(2,2,3), k=(1,2))
tf.matrix_diag_part(u(2,3,4), k=1)
tf.matrix_diag_part(u(2,3,4), k=(-1,2), padding_value=7.)
tf.matrix_diag_part(u(2,3,4), k=(-2,-1))
tf.matrix_set_diag(u(2,3,4), np.ones((2,3)), k=1)
tf.matrix_set_diag(u(2,3,4), np.ones((2,3,3)), k=(-1,1))
tf.unravel_index([5,7,11],[3,4])
tf.unravel_index(22,[2,3,4])
tf.repeat([1,2,3],2)
tf.repeat([[1,2],[3,4]],[1,3],axis=0)
tf.repeat([[1,2],[3,4]],2,axis=1)
tf.repeat([[1,2],[3,4]],[0,2],axis=-1)
tf.repeat([[1,2],[3,4]],[1,2,3,0])
tf.fake_quant_with_min_max_args(u(9)*4,-1.1,2.3,8,False)
tf.fake_quant_with_min_max_args(u(9)*4,-1.1,2.3,3,True)
tf.fake_quant_with_min_max_vars(u(9)*4,0.5,2.3,3)
tf.fake_quant_with_min_max_vars(u(9)*4,0.,0.)
tf.fake_quant_with_min_max_vars_per_channel(u(5,2)*4,[-1.,-2.],[1.5,0.3],3)
tf.fake_quant_with_min_max_vars_gradient(u(9,seed=1),u(9)*4,-1.1,2.3)
tf.fake_quant_with_min_max_args_gradient(u(9,seed=1),u(9)*4,-1.1,2.3)
tf.fake_quant_with_min_max_vars_per_channel_gradient(u(5,2,seed=1),u(5,2)*4,[-1.,-2.],[1.5,0.3],3)
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,True,8,True)
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,True,3,False)
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,False,3,True,'HALF_UP')
tf.quantization.quantize_and_dequantize(u(9)*3,-1.2,2.1,True,3,True,narrow_range=True)
""".split("\n")
CASES = [c for c in CASES if c and not c.startswith("#")]


def evaluate(tf: Any, expression: str) -> list[np.ndarray]:
    """The values of one call, flat, in a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as sess:
        found = eval(expression, {"tf": tf, "np": np, "u": u})
        found = [t for part in (found if isinstance(found, (list, tuple)) else [found])
                 for t in ((part.indices, part.values, part.dense_shape) if isinstance(part, tf.SparseTensor) else (part,))]
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return [np.asarray(r) for r in sess.run(found)]


def _plain(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind == "c":
        values: list[Any] = [float(f"{v:.7g}") for z in array.reshape(-1) for v in (z.real, z.imag)]
    elif array.dtype.kind == "f":
        values = [float(f"{v:.7g}") for v in array.reshape(-1)]
    else:
        values = [v.decode() if isinstance(v, bytes) else v for v in array.reshape(-1).tolist()]
    return {"dtype": "string" if array.dtype.kind in "SO" else array.dtype.name, "shape": list(array.shape), "values": values}


def main() -> None:
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    found = {}
    for case in CASES:
        name = case.split("(")[0].split(".")[-1]
        extra = _ONLY_TF.get(name)
        try:
            found[case] = [_plain(a) for a in evaluate(tf, case[:-1] + f", {extra})" if extra else case)]
        except Exception as e:
            print(f"{case}: {type(e).__name__}: {str(e)[:300]}", file=sys.stderr)
    FILE.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items()) + "\n}\n")
    print(f"{len(found)} of {len(CASES)} calls")


if __name__ == "__main__":
    main()
