"""Writes to variables: whole ones and parts.  TF's `state_ops`."""
from .ops.scatter_state import *
from .ops.scatter_state import __all__ as _parts
from .ops.state import assign, assign_add, assign_sub

__all__ = ["assign", "assign_add", "assign_sub", *_parts]
