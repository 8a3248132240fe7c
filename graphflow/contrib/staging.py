"""`tf.contrib.staging`."""
from ..accumulators import StagingArea

__all__ = ["StagingArea"]
