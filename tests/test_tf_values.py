"""Public names against the values that TensorFlow 2.21's compat.v1 gives, written down in tests/golden/tf_values.json."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

sys.path.insert(0, str(Path(__file__).parent))
import tf_values

EXPECTED = json.loads(tf_values.FILE.read_text())


def test_every_case_has_a_value():
    assert set(EXPECTED) == set(tf_values.CASES)


@pytest.mark.parametrize("case", tf_values.CASES)
def test_value(case):
    with flags.override(interpret=QUICK):
        found = tf_values.evaluate(tf, case)
    assert len(found) == len(EXPECTED[case])
    for array, expected in zip(found, EXPECTED[case]):
        assert list(array.shape) == expected["shape"]
        if expected["dtype"] == "string":
            assert [v.decode() if isinstance(v, bytes) else v for v in array.reshape(-1)] == expected["values"]
            continue
        assert array.dtype.name == expected["dtype"]
        values = np.array(expected["values"], np.float64)
        values = values[::2] + 1j * values[1::2] if array.dtype.kind == "c" else values
        if array.dtype.kind in "fc":
            np.testing.assert_allclose(array.reshape(-1), values, rtol=3e-5, atol=1e-5 * max(1, np.abs(values).max(initial=0)))
        else:
            assert np.array_equal(array.reshape(-1), values)
