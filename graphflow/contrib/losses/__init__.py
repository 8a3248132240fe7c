"""`tf.contrib.losses`: losses with the predictions first, the older order, kept in the collection LOSSES."""
from . import metric_learning
from .losses import *
