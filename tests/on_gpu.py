"""Whether tests run on a GPU (pytest --gpu), which conftest.py says in the environment before it collects them."""
from __future__ import annotations

import os

ON_GPU = os.environ.get("GRAPHFLOW_TEST_GPU", "no") != "no"
EMULATED = os.environ.get("GRAPHFLOW_TEST_GPU") == "emulated"
# The flag `interpret` of tests that do not mind who computes: NumPy's reference, which compiles nothing; under --gpu, the GPU.
QUICK = int(not ON_GPU)


def a_gpu(**options):
    """A context with a driver whose calls are counted, for tests written for the emulator: this machine's under --gpu=real."""
    from graphflow.testing import emulated_gpu
    from graphflow.testing.watched import watched_gpu

    return watched_gpu() if os.environ.get("GRAPHFLOW_TEST_GPU") == "real" else emulated_gpu(**options)
