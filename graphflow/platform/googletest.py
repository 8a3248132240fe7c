"""Names of `tensorflow.python.platform.googletest` and `framework.test_util` that are others in `tf.test`."""
from .test import StubOutForTesting, get_temp_dir as GetTempDir, main, mock, TestCase, TestCase as TensorFlowTestCase

__all__ = ["GetTempDir", "StubOutForTesting", "TensorFlowTestCase", "TestCase", "main", "mock"]
