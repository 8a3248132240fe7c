"""`tf.contrib.framework`: argument scopes, variables of a model, checks."""
from .. import _old_layout
from ... import nest
from ...array_ops import argsort, sort
from ...check_ops import (assert_same_float_dtype, assert_scalar, is_non_decreasing, is_numeric_tensor, is_strictly_increasing)
from ...specs import TensorSpec
from ...train import init_from_checkpoint, list_variables, load_checkpoint, load_variable
from .arg_scope import *
from .deprecation import *
from .tensors import *
from .variables import *

__getattr__ = _old_layout(__name__)
