"""`tf.contrib.tfprof`: the older names of `tf.profiler`."""
from . import model_analyzer

__all__ = ["model_analyzer"]
