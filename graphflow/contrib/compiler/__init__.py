"""`tf.contrib.compiler`."""
from . import jit
