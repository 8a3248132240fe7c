"""`tf.contrib.layers`: layers as functions, with their variables, initializers, regularizers and `optimize_loss`."""
from .. import _old_layout
from ...regularizers import apply_regularization, l1_l2_regularizer, l1_regularizer, l2_regularizer, sum_regularizer
from . import utils
from .convolution import *
from .dense import *
from .embedding import *
from .initializers import *
from .normalization import *
from .optimizers import *
from .simple import *
from .summaries import *

__getattr__ = _old_layout(__name__)
