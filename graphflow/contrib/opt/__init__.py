"""`tf.contrib.opt`: SciPy's optimizers on a graph, and optimizers beyond those of `tf.train`."""
from .external import *
from .optimizers import *
