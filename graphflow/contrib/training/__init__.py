"""`tf.contrib.training`: hyperparameters, training and evaluation loops."""
from .. import _old_layout
from .bucket import *
from .device_setter import *
from .evaluation import *
from .hparam import *
from .training import *

__getattr__ = _old_layout(__name__)
