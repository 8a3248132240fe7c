"""The global step: an int64 variable that counts training steps."""
from __future__ import annotations

from typing import Any

from .. import graph, types
from ..graph import Graph, GraphKeys
from ..ops.opdef import convert_to_tensor


def global_step(sess: Any, global_step_tensor: Any) -> int:
    """The step's value in `sess`, as an int."""
    return int(sess.run(getattr(global_step_tensor, "handle", global_step_tensor)))


def get_global_step(graph: Graph | None = None) -> Any:
    """The graph's global step, or None.

    Raises:
        RuntimeError: the GLOBAL_STEP collection holds several.  TypeError: the one there is no integer scalar.
    """
    g = graph or _default()
    found = g.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        raise RuntimeError(f"Multiple items in the global step collection: {found}")
    step = found[0] if found else next((v for v in g.get_collection(GraphKeys.GLOBAL_VARIABLES) if v.name == "global_step:0"), None)
    if step is not None:
        assert_global_step(step)
    return step


def create_global_step(graph: Graph | None = None) -> Any:
    """Makes the graph's global step, the variable "global_step".  Raises ValueError when there is one."""
    from ..variable_scope import get_variable

    g = graph or _default()
    if get_global_step(g) is not None:
        raise ValueError('"global_step" already exists.')
    with g.as_default(), g.name_scope(None), g.control_dependencies(None):
        return get_variable(GraphKeys.GLOBAL_STEP, shape=[], dtype=types.int64, initializer=_zero, trainable=False,
                            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP])


def _zero(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
    return convert_to_tensor(0, dtype)


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """The graph's global step, made if it has none."""
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def assert_global_step(global_step_tensor: Any) -> None:
    """Raises TypeError unless the argument is an integer scalar variable or tensor."""
    if not hasattr(global_step_tensor, "dtype"):
        raise TypeError(f"Existing \"global_step\" must be a Variable or Tensor, got {global_step_tensor!r}")
    if not global_step_tensor.dtype.base_dtype.is_integer:
        raise TypeError(f"Existing \"global_step\" does not have integer type: {global_step_tensor.dtype.name}")
    if global_step_tensor.get_shape().ndims not in (0, None):
        raise TypeError(f"Existing \"global_step\" is not scalar: {global_step_tensor.get_shape()}")


def _default() -> Graph:
    return graph.get_default_graph()
