"""`tf.contrib.training`: hyperparameters, training and evaluation loops."""
from .evaluation import *
from .hparam import *
from .training import *
