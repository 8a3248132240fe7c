"""`tf.contrib.training`: hyperparameters, training operations."""
from .hparam import *
from .training import *
