"""`tf.contrib.tensorboard`: what its plugins read."""
from . import plugins

__all__ = ["plugins"]
