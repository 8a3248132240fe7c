"""`tf.contrib.compiler.jit`: in TF1 it asked XLA to compile some ops; here all are compiled."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

__all__ = ["experimental_jit_scope"]


@contextmanager
def experimental_jit_scope(compile_ops: Any = True, separate_compiled_gradients: bool = False) -> Iterator[None]:
    """Ops made inside are compiled, as they are outside; both arguments are accepted and change nothing."""
    yield
