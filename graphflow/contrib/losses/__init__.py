"""`tf.contrib.losses`: losses with the predictions first, the older order, kept in the collection LOSSES."""
from .. import _old_layout
from . import metric_learning
from .losses import *

__getattr__ = _old_layout(__name__)
