"""`tf.contrib.opt`: SciPy's optimizers on a graph, and optimizers beyond those of `tf.train`."""
from .. import _old_layout
from .external import *
from .optimizers import *

__getattr__ = _old_layout(__name__)
