"""Whether tests run on a GPU (pytest --gpu), which conftest.py says in the environment before it collects them."""
import os

ON_GPU = os.environ.get("GRAPHFLOW_TEST_GPU", "no") != "no"
# The flag `interpret` of tests that do not mind who computes: NumPy's reference, which compiles nothing; under --gpu, the GPU.
QUICK = int(not ON_GPU)
