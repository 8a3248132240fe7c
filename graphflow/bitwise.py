"""`tf.bitwise`: the bits of integers."""
from __future__ import annotations

from .math_ops import _binary, _unary
from .ops import elementwise as ew

__all__ = ["bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift"]

bitwise_and = _binary(ew.bitwise_and, "bitwise_and")
bitwise_or = _binary(ew.bitwise_or, "bitwise_or")
bitwise_xor = _binary(ew.bitwise_xor, "bitwise_xor")
left_shift = _binary(ew.left_shift, "left_shift")
right_shift = _binary(ew.right_shift, "right_shift")
invert = _unary(ew.invert, "invert")
