"""`tf.layers.Layer`: variables made on the first call, shared by later ones, under a scope named after the layer."""
from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from .. import graph, nest, types
from ..graph import GraphKeys, Tensor
from ..ops.opdef import convert_to_tensor
from ..variable_scope import VariableScope, get_variable, variable_scope


class Layer:
    """Base class: override `build(input_shape)`, which makes variables with `add_variable`, and `call(inputs)`.

    Args:
        trainable: whether the variables join TRAINABLE_VARIABLES.
        name: the scope's name, made unique; by default the class's name in snake case.
        dtype: of the variables; by default that of the first input.
    """

    # Fewest and exact number of dimensions of the input; None: any.
    min_ndim: int | None = None
    ndim: int | None = None

    def __init__(self, trainable: bool = True, name: str | None = None, dtype: Any = None, activity_regularizer: Any = None,
                 _scope: Any = None, _reuse: Any = None, **unknown: Any):
        if unknown:
            raise TypeError(f"Keyword argument not understood: {sorted(unknown)}")
        self.trainable, self.built = trainable, False
        self.dtype = None if dtype is None else types.as_dtype(dtype).name
        # Conv2DTranspose is conv2d_transpose: a capital starts a word after a lower-case letter or before one.
        self._base_name = name or re.sub("(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", type(self).__name__).lower()
        self._name, self._reuse, self._activity_regularizer = name, _reuse, activity_regularizer
        self._wanted_scope = _scope
        self._scope: Any = None
        self._trainable_weights: list[Any] = []
        self._non_trainable_weights: list[Any] = []
        self._updates: list[Any] = []
        self._losses: list[Any] = []
        self.inputs: Any = None
        self.outputs: Any = None
        self._calls: list[tuple[Any, Any]] = []
        self.input_spec: Any = None

    # -- what it holds

    @property
    def name(self) -> str:
        return self._name or self._base_name

    @property
    def scope_name(self) -> str:
        """The variable scope's name.  Raises ValueError before the first call."""
        if self._scope is None:
            raise ValueError(f'No name available for layer scope because the layer "{self.name}" has not been used yet. The scope name is '
                             "determined the first time the layer instance is called. You must therefore call the layer before querying "
                             "`scope_name`.")
        return self._scope.name

    @property
    def trainable_weights(self) -> list[Any]:
        return list(self._trainable_weights) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        return list(self._non_trainable_weights) + ([] if self.trainable else list(self._trainable_weights))

    @property
    def weights(self) -> list[Any]:
        return self.trainable_weights + self.non_trainable_weights

    variables = property(lambda self: self.weights)
    trainable_variables = property(lambda self: self.trainable_weights)
    non_trainable_variables = property(lambda self: self.non_trainable_weights)
    updates = property(lambda self: list(self._updates))
    losses = property(lambda self: list(self._losses))
    activity_regularizer = property(lambda self: self._activity_regularizer,
                                    lambda self, value: setattr(self, "_activity_regularizer", value))
    input = property(lambda self: self._only(0, "input"))
    output = property(lambda self: self._only(1, "output"))
    input_shape = property(lambda self: _shapes(self._only(0, "input shape")))
    output_shape = property(lambda self: _shapes(self._only(1, "output shape")))
    graph = property(lambda self: nest.flatten(self.outputs)[0].graph)

    def _only(self, side: int, what: str) -> Any:
        """The input or output of the one call.  Raises AttributeError when there were none or several."""
        if len(self._calls) != 1:
            raise AttributeError(f"Layer {self.name} has been called {len(self._calls)} times, hence the notion of \"layer {what}\" is "
                                 "ill-defined." + (f" Use `get_{what.replace(' ', '_')}_at(node_index)` instead." if self._calls else ""))
        return self._calls[0][side]

    def _at(self, node_index: int, side: int) -> Any:
        if not -len(self._calls) <= node_index < len(self._calls):
            raise ValueError(f"Asked for call {node_index} of layer {self.name}, but it has been called {len(self._calls)} times.")
        return self._calls[node_index][side]

    def get_input_at(self, node_index: int) -> Any:
        """What the call of that number was given.  Raises ValueError when there was none."""
        return self._at(node_index, 0)

    def get_output_at(self, node_index: int) -> Any:
        """What the call of that number returned.  Raises ValueError when there was none."""
        return self._at(node_index, 1)

    def get_input_shape_at(self, node_index: int) -> Any:
        return _shapes(self._at(node_index, 0))

    def get_output_shape_at(self, node_index: int) -> Any:
        return _shapes(self._at(node_index, 1))

    def get_weights(self) -> list[Any]:
        """The weights' values in the default session."""
        return graph.OPERATORS["default_session"](self, None).run(self.weights)

    def set_weights(self, weights: Any) -> None:
        """Gives the weights values, in the default session.  Raises ValueError when there are more, fewer, or other shapes."""
        if len(weights) != len(self.weights):
            raise ValueError(f"You called `set_weights(weights)` on layer {self.name!r} with a weight list of length {len(weights)}, but "
                             f"the layer was expecting {len(self.weights)} weights.")
        for v, value in zip(self.weights, weights):
            v.load(value)

    def count_params(self) -> int:
        """Elements in all weights.  Raises ValueError before the layer is built."""
        if not self.built:
            raise ValueError(f"You tried to call `count_params` on {self.name}, but the layer isn't built.")
        return sum(w.shape.num_elements() for w in self.weights)

    def get_updates_for(self, inputs: Any = None) -> list[Any]:
        return self.updates

    def get_losses_for(self, inputs: Any = None) -> list[Any]:
        return self.losses

    # -- what subclasses call

    def add_weight(self, name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None,
                   trainable: bool | None = None, constraint: Any = None, use_resource: Any = None, synchronization: Any = None,
                   aggregation: Any = None, partitioner: Any = None, **_: Any) -> Any:
        """A variable `scope/name`, shared when the layer is reused."""
        trainable = trainable is not False
        v = get_variable(name, shape=shape, dtype=dtype or self.dtype or types.float32, initializer=initializer, regularizer=regularizer,
                            trainable=trainable and self.trainable, constraint=constraint, partitioner=partitioner)
        mine = self._trainable_weights if trainable else self._non_trainable_weights
        if all(v is not w for w in mine):  # a custom getter may have noted it
            mine.append(v)
        return v

    add_variable = add_weight

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Puts operations into the collection UPDATE_OPS, to be run with each training step."""
        for u in updates if isinstance(updates, (list, tuple)) else [updates]:
            op = u.op if isinstance(u, Tensor) else u
            self._updates.append(op)
            graph.get_default_graph().add_to_collection(GraphKeys.UPDATE_OPS, op)

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Puts scalars into the collection REGULARIZATION_LOSSES."""
        for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
            if loss is not None:
                self._losses.append(loss)
                graph.get_default_graph().add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)

    # -- what subclasses define

    def build(self, input_shape: types.TensorShape) -> None:
        """Makes the variables for inputs of this shape."""
        self.built = True

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The outputs."""
        return inputs

    def compute_output_shape(self, input_shape: Any) -> types.TensorShape:
        raise NotImplementedError

    # -- calling

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Applies the layer; the first call makes its variables.

        Raises:
            ValueError: the input has a rank or a shape the layer cannot take.
        """
        scope = kwargs.pop("scope", None)
        several = isinstance(inputs, (list, tuple)) and _holds_tensors(nest.flatten(inputs))
        inputs = nest.map_structure(convert_to_tensor, inputs) if several else convert_to_tensor(inputs)
        first = nest.flatten(inputs)[0]
        self._check(first)
        if self.dtype is None:
            self.dtype = first.dtype.name
        with first.graph.as_default(), self._enter(scope):
            if not self.built:
                self.build(first.shape)
                self.built = True
            outputs = self.call(inputs, *args, **kwargs)
        if self._activity_regularizer is not None:
            self._regularize(outputs)
        self.inputs, self.outputs = inputs, outputs
        self._calls.append((inputs, outputs))
        return outputs

    def _regularize(self, outputs: Any) -> None:
        """Adds the activities' loss, per example."""
        from ..array_ops import shape

        with graph.get_default_graph().name_scope("ActivityRegularizer"):
            for y in nest.flatten(outputs):
                loss = convert_to_tensor(self._activity_regularizer(y))
                self.add_loss(loss / graph.OPERATORS["cast"](shape(y)[0], loss.dtype))

    def apply(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return self(inputs, *args, **kwargs)

    def _enter(self, scope: Any) -> Any:
        """The variable scope of this call: a new one the first time (reused if asked), then the same again."""
        if self._scope is not None:
            return _again(self._scope, True if self.built else self._reuse)
        wanted = scope if scope is not None else self._wanted_scope
        if isinstance(wanted, VariableScope):
            return _Captured(self, _again(wanted, self._reuse))
        if wanted is None and self._reuse:
            wanted = self._base_name
        return _Captured(self, variable_scope(wanted, default_name=self._base_name, reuse=self._reuse))

    def _check(self, x: Tensor) -> None:
        start = f"Input 0 of layer {self.name} is incompatible with the layer: "
        if isinstance(self.input_spec, InputSpec):
            self.input_spec._check(x, start)
        if self.min_ndim is None and self.ndim is None:
            return
        if x.sizes is None:
            raise ValueError(f"{start}its rank is undefined, but the layer requires a defined rank.")
        full = f"Full shape received: {x.shape.as_list()}"
        if self.ndim is not None and len(x.sizes) != self.ndim:
            raise ValueError(f"{start}expected ndim={self.ndim}, found ndim={len(x.sizes)}. {full}")
        if self.min_ndim is not None and len(x.sizes) < self.min_ndim:
            raise ValueError(f"{start}expected min_ndim={self.min_ndim}, found ndim={len(x.sizes)}. {full}")


@contextmanager
def _again(scope: VariableScope, reuse: Any) -> Iterator[VariableScope]:
    """A variable scope once more, with its own name scope: ops of later calls are `dense/MatMul_1`."""
    with (variable_scope(scope, reuse=reuse, auxiliary_name_scope=False) as inner,
          graph.get_default_graph().name_scope(scope.original_name_scope or None)):
        yield inner


class _Captured:
    """Enters a variable scope and remembers it as the layer's."""

    def __init__(self, layer: Layer, context: Any):
        self.layer, self.context = layer, context

    def __enter__(self) -> Any:
        self.layer._scope = self.context.__enter__()
        if self.layer._name is None:
            self.layer._name = self.layer._scope.name.rsplit("/", 1)[-1]
        return self.layer._scope

    def __exit__(self, *problem: Any) -> Any:
        return self.context.__exit__(*problem)


def _holds_tensors(values: Any) -> bool:
    return any(isinstance(v, Tensor) or hasattr(v, "handle") for v in values)


def _shapes(tensors: Any) -> Any:
    """The shapes of tensors, in their nesting, as tuples."""
    return nest.map_structure(lambda t: tuple(t.shape.as_list()), tensors)


class InputSpec:
    """What a layer's `input_spec` says of its input: dtype, shape (None: any size), rank, sizes of some axes {axis: size}."""

    def __init__(self, dtype: Any = None, shape: Any = None, ndim: int | None = None, max_ndim: int | None = None,
                 min_ndim: int | None = None, axes: dict[int, Any] | None = None):
        self.dtype = None if dtype is None else types.as_dtype(dtype).name
        self.shape = None if shape is None else tuple(types.TensorShape(shape).as_list())
        self.ndim = len(self.shape) if self.shape is not None else ndim
        self.max_ndim, self.min_ndim = max_ndim, min_ndim
        self.axes = {int(k): axes[k] for k in axes} if axes else {}

    def _check(self, x: Tensor, start: str) -> None:
        """Raises ValueError when `x` is something else."""
        rank = x.shape.ndims
        full = f"Full shape received: {x.shape}"
        if rank is None:
            if self.ndim is not None or self.min_ndim is not None or self.axes:
                raise ValueError(f"{start}its rank is undefined, but the layer requires a defined rank.")
            return
        for name, wrong in (("ndim", self.ndim not in (None, rank)),
                            ("max_ndim", rank > (rank if self.max_ndim is None else self.max_ndim)),
                            ("min_ndim", rank < (rank if self.min_ndim is None else self.min_ndim))):
            if wrong:
                raise ValueError(f"{start}expected {name}={getattr(self, name)}, found ndim={rank}. {full}")
        if self.dtype is not None and x.dtype.name != self.dtype:
            raise ValueError(f"{start}expected dtype={self.dtype}, found dtype={x.dtype.name}")
        sizes = x.shape.as_list()
        wanted = {**self.axes, **dict(enumerate(self.shape or ()))}
        for axis, n in wanted.items():
            if n is not None and sizes[axis] not in (None, n):
                raise ValueError(f"{start}expected axis {axis} of input shape to have value {n} but received input with shape {x.shape}")

    def __repr__(self) -> str:
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in vars(self).items() if v)})"


def activated(outputs: Tensor, activation: Callable[..., Any] | None) -> Tensor:
    return outputs if activation is None else activation(outputs)


def numbers(value: Any, n: int, name: str) -> tuple[int, ...]:
    """`n` positive ints from one or from a sequence of `n`.  Raises ValueError on anything else."""
    found = (value,) * n if isinstance(value, int) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(found) != n or not all(hasattr(v, "__index__") and int(v) >= 1 for v in found):
        raise ValueError(f"The `{name}` argument must be a tuple of {n} positive integers. Received: {value}")
    return tuple(int(v) for v in found)


def channels_first(data_format: str) -> bool:
    """Whether the channels are axis 1.  Raises ValueError for anything but TF1's two names."""
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(f"The `data_format` argument must be one of 'channels_first', 'channels_last'. Received: {data_format}")
    return data_format == "channels_first"


def format_of(first: bool, rank: int) -> str:
    """TF's layout name for `rank` spatial dimensions: NHWC, NCW, NDHWC, ..."""
    space = "DHW"[3 - rank:]
    return f"NC{space}" if first else f"N{space}C"


def padding_of(padding: str) -> str:
    """"SAME" or "VALID".  Raises ValueError."""
    if not isinstance(padding, str) or padding.upper() not in ("SAME", "VALID"):
        raise ValueError(f"The `padding` argument must be one of 'valid', 'same'. Received: {padding}")
    return padding.upper()
