"""`tf.contrib.lookup`: lookup tables under their older names."""
from . import lookup_ops
from .lookup_ops import *
