"""`tf.nn.rnn_cell`: one step of a recurrent network as a layer, (inputs, state) -> (output, new state).

Knows cells and what wraps them; loops over time are rnn.py's.  Variables have TF1's names, shapes and order of gates, so that
TF1's checkpoints fit.
"""
from __future__ import annotations

import collections
import hashlib
import numbers
from typing import Any, Callable, Sequence

from . import array_ops, framework, graph, math_ops, nest, nn, types
from .graph import Tensor
from .init_ops import constant_initializer, zeros_initializer
from .layers.base import Layer
from .ops.contraction import matmul
from .ops.opdef import constant_value, convert_to_tensor
from .tensor_array_ops import TensorArray
from .variable_scope import get_variable_scope, variable_scope

__all__ = ["BasicLSTMCell", "BasicRNNCell", "DeviceWrapper", "DropoutWrapper", "GRUCell", "LSTMCell", "LSTMStateTuple", "MultiRNNCell",
           "RNNCell", "ResidualWrapper"]


# ---------------------------------------------------------------- what the libraries of recurrent networks share


def assert_like_rnncell(cell_name: str, cell: Any) -> None:
    """Raises TypeError when `cell` lacks a member that every RNNCell has."""
    missing = [f"{name!r} property is missing" for name in ("output_size", "state_size") if not hasattr(cell, name)]
    if not hasattr(cell, "zero_state") and not hasattr(cell, "get_initial_state"):
        missing.append("either 'zero_state' or 'get_initial_state' method is required")
    if not callable(cell):
        missing.append("is not callable")
    if missing:
        raise TypeError(f"The argument {cell_name!r} ({cell}) is not an RNNCell: {', '.join(missing)}.")


def batched(batch: Any, size: Any) -> tuple[Any, types.TensorShape]:
    """The shape [batch, *size] as an argument of ops, and what is known of it while building.

    Args:
        batch: an int, a Dimension or a scalar tensor.
        size: an int, a TensorShape, or an int tensor (scalar or vector).
    """
    if isinstance(size, Tensor):
        value = constant_value(size)
        if value is None:
            sizes = array_ops.reshape(size, [-1])
            rows = array_ops.reshape(convert_to_tensor(batch, None if isinstance(batch, Tensor) else sizes.dtype), [1])
            return array_ops.concat([math_ops.cast(rows, sizes.dtype), sizes], 0), types.TensorShape(None)
        size = value.tolist()
    tail = types.TensorShape([size] if isinstance(size, numbers.Integral) else size)
    if not tail.is_fully_defined():
        raise ValueError(f"The size of a state or output must be fully known, got {tail}")
    first = constant_value(batch) if isinstance(batch, Tensor) else getattr(batch, "value", batch)
    known = types.TensorShape([None if first is None else int(first)]).concatenate(tail)
    if first is not None:
        return known.as_list(), known
    return [batch, *tail.as_list()], known


def zeros(batch: Any, size: Any, dtype: Any) -> Tensor:
    """Zeros of shape [batch, *size]."""
    shape, known = batched(batch, size)
    with graph.get_default_graph().counted_as(8):
        found = array_ops.zeros(shape, types.as_dtype(dtype))
    found.set_shape(known)
    return found


def activation_of(given: Any, default: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An activation given as a function, by its name in tf.nn or tf.math, or not at all."""
    if not given:
        return default
    if callable(given):
        return given
    found = getattr(nn, given, None) or getattr(math_ops, given, None) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"Unknown activation function: {given!r}")
    return found


def _check_floats(values: Any) -> None:
    for x in nest.flatten(values):
        _check_float(x.dtype)


def _check_float(dtype: Any) -> None:
    if dtype is not None and not (types.as_dtype(dtype).is_floating or types.as_dtype(dtype).is_complex):
        raise ValueError(f"RNN cell only supports floating point inputs, but saw dtype: {types.as_dtype(dtype).name}")


def depth_of(input_shape: types.TensorShape) -> int:
    """The size of the last axis.  Raises ValueError when it is not known."""
    if input_shape.ndims is None or input_shape[-1].value is None:
        raise ValueError(f"Expected inputs.shape[-1] to be known, saw shape: {input_shape}")
    return input_shape[-1].value


# ---------------------------------------------------------------- cells


class RNNCell(Layer):
    """Base of all cells: `output, new_state = cell(inputs, state)`.

    A subclass has the properties `state_size` (an int, a TensorShape, or a nesting of them) and `output_size`, and either
    `call(inputs, state)`, whose variables then go below a scope named after the class, or `__call__(inputs, state, scope=None)`
    without any scope of its own.  States have the shape [batch, *size] for each size of `state_size`.
    """

    def __init__(self, trainable: bool = True, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(trainable=trainable, name=name, dtype=dtype, **kwargs)
        _check_float(self.dtype)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        """One step.

        Args:
            inputs: a tensor [batch, depth], or a nesting of tensors where the cell takes one.
            state: of the structure of `state_size`.
            scope: where to make the variables (a name or a VariableScope), in place of a scope named after the cell.

        Returns:
            The output [batch, output_size] and the new state, of the structure and shapes of `state`.
        """
        if scope is not None:
            with variable_scope(scope, custom_getter=self._noted) as scope:
                return super().__call__(inputs, state, scope=scope)
        with variable_scope(get_variable_scope(), custom_getter=self._noted, auxiliary_name_scope=False):
            return super().__call__(inputs, state)

    def _noted(self, getter: Any, *args: Any, **kwargs: Any) -> Any:
        """A custom getter: what `call` gets by `tf.get_variable` belongs to the cell's weights."""
        v = getter(*args, **kwargs)
        mine = self._trainable_weights if v.trainable else self._non_trainable_weights
        if all(v is not w for w in mine):
            mine.append(v)
        return v

    @property
    def state_size(self) -> Any:
        """Size or sizes of the state: an int, a TensorShape, or a nesting of them."""
        raise NotImplementedError("Abstract method")

    @property
    def output_size(self) -> Any:
        """Size of the output: an int, a TensorShape, or a nesting of them."""
        raise NotImplementedError("Abstract method")

    def get_initial_state(self, inputs: Any = None, batch_size: Any = None, dtype: Any = None) -> Any:
        """`zero_state` for the batch and dtype given, or for those of `inputs`.

        Raises:
            ValueError: neither is given, or what is given contradicts `inputs`.
        """
        if inputs is not None:
            inputs = convert_to_tensor(inputs)
            size = inputs.shape[0].value
            given = constant_value(batch_size) if isinstance(batch_size, Tensor) else batch_size
            if given is not None and size is not None and int(given) != size:
                raise ValueError(f"batch size from input tensor is different from the input param. Input tensor batch: {size}, "
                                 f"batch_size: {batch_size}")
            if dtype is not None and inputs.dtype is not types.as_dtype(dtype):
                raise ValueError(f"dtype from input tensor is different from the input param. Input tensor dtype: {inputs.dtype}, "
                                 f"dtype: {dtype}")
            batch_size, dtype = array_ops.shape(inputs)[0] if size is None else size, inputs.dtype
        if batch_size is None or dtype is None:
            raise ValueError("batch_size and dtype cannot be None while constructing initial state: "
                             f"batch_size={batch_size}, dtype={dtype}")
        return self.zero_state(batch_size, dtype)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """Zeros [batch_size, *size] for each size of `state_size`, in its structure."""
        with graph.get_default_graph().name_scope(type(self).__name__ + "ZeroState"):
            return nest.map_structure(lambda size: zeros(batch_size, size, dtype), self.state_size)


class LayerRNNCell(RNNCell):
    """A cell that makes its variables in `build`, by `add_weight`."""

    ndim = 2

    def __call__(self, inputs: Any, state: Any, scope: Any = None, *args: Any, **kwargs: Any) -> Any:
        return Layer.__call__(self, inputs, state, *args, scope=scope, **kwargs)


class BasicRNNCell(LayerRNNCell):
    """output = new state = activation([inputs, state] kernel + bias).

    Variables: kernel [depth + num_units, num_units], bias [num_units] (zeros).
    """

    def __init__(self, num_units: int, activation: Any = None, reuse: Any = None, name: str | None = None, dtype: Any = None,
                 **kwargs: Any):
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._activation = num_units, activation_of(activation, math_ops.tanh)

    state_size = property(lambda self: self._num_units)
    output_size = property(lambda self: self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        self._kernel = self.add_weight("kernel", [depth_of(input_shape) + self._num_units, self._num_units])
        self._bias = self.add_weight("bias", [self._num_units], initializer=zeros_initializer())
        self.built = True

    def call(self, inputs: Tensor, state: Tensor) -> Any:
        _check_floats([inputs, state])
        output = self._activation(nn.bias_add(matmul(array_ops.concat([inputs, state], 1), self._kernel), self._bias))
        return output, output


class GRUCell(LayerRNNCell):
    """Gated recurrent unit (Cho et al. 2014), with r, u = sigmoid([x, h] gates) and c = activation([x, r h] candidate):
    new state = u h + (1 - u) c.

    Variables: gates/kernel [depth + num_units, 2 num_units], gates/bias (ones), candidate/kernel [depth + num_units, num_units],
    candidate/bias (zeros).
    """

    def __init__(self, num_units: int, activation: Any = None, reuse: Any = None, kernel_initializer: Any = None,
                 bias_initializer: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._activation = num_units, activation_of(activation, math_ops.tanh)
        self._kernel_initializer, self._bias_initializer = kernel_initializer, bias_initializer

    state_size = property(lambda self: self._num_units)
    output_size = property(lambda self: self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        n, rows = self._num_units, depth_of(input_shape) + self._num_units
        bias = self._bias_initializer
        self._gate_kernel = self.add_weight("gates/kernel", [rows, 2 * n], initializer=self._kernel_initializer)
        self._gate_bias = self.add_weight("gates/bias", [2 * n], initializer=constant_initializer(1.0) if bias is None else bias)
        self._candidate_kernel = self.add_weight("candidate/kernel", [rows, n], initializer=self._kernel_initializer)
        self._candidate_bias = self.add_weight("candidate/bias", [n], initializer=zeros_initializer() if bias is None else bias)
        self.built = True

    def call(self, inputs: Tensor, state: Tensor) -> Any:
        _check_floats([inputs, state])
        gates = nn.bias_add(matmul(array_ops.concat([inputs, state], 1), self._gate_kernel), self._gate_bias)
        r, u = array_ops.split(math_ops.sigmoid(gates), 2, axis=1)
        candidate = nn.bias_add(matmul(array_ops.concat([inputs, r * state], 1), self._candidate_kernel), self._candidate_bias)
        new = u * state + (1 - u) * self._activation(candidate)
        return new, new


class LSTMStateTuple(collections.namedtuple("LSTMStateTuple", ("c", "h"))):
    """State (and `state_size`) of LSTM cells: the cell's memory `c` and its output `h`."""

    __slots__ = ()

    @property
    def dtype(self) -> types.DType:
        if self.c.dtype != self.h.dtype:
            raise TypeError(f"Inconsistent internal state: {self.c.dtype} vs {self.h.dtype}")
        return self.c.dtype


def pair_of(cell: Any, state: Any) -> Any:
    """The two parts of an LSTM's state.  Raises TypeError when it is not made of parts, ValueError when not of two."""
    if not nest.is_sequence(state):
        raise TypeError(f"The state of {type(cell).__name__} must be an LSTMStateTuple of c and h, got {state!r}")
    if len(state) != 2:
        raise ValueError(f"Expecting state to be a tuple with length 2, got {len(state)} parts: {state!r}")
    return state


class BasicLSTMCell(LayerRNNCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Zaremba et al. 2014).

    With [i, j, f, o] = [x, h] kernel + bias: new c = c sigmoid(f + forget_bias) + sigmoid(i) activation(j) and
    output = new h = activation(new c) sigmoid(o).

    Variables: kernel [depth + num_units, 4 num_units], bias [4 num_units] (zeros; `forget_bias` is added to it).

    Args:
        state_is_tuple: the state is an LSTMStateTuple; else one tensor [batch, 2 num_units] of c and h.
    """

    def __init__(self, num_units: int, forget_bias: float = 1.0, state_is_tuple: bool = True, activation: Any = None, reuse: Any = None,
                 name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._forget_bias, self._state_is_tuple = num_units, forget_bias, state_is_tuple
        self._activation = activation_of(activation, math_ops.tanh)

    @property
    def state_size(self) -> Any:
        return LSTMStateTuple(self._num_units, self._num_units) if self._state_is_tuple else 2 * self._num_units

    output_size = property(lambda self: self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        n = self._num_units
        self._kernel = self.add_weight("kernel", [depth_of(input_shape) + n, 4 * n])
        self._bias = self.add_weight("bias", [4 * n], initializer=zeros_initializer())
        self.built = True

    def call(self, inputs: Tensor, state: Any) -> Any:
        _check_floats([inputs, state])
        c, h = pair_of(self, state) if self._state_is_tuple else array_ops.split(state, 2, axis=1)
        gates = nn.bias_add(matmul(array_ops.concat([inputs, h], 1), self._kernel), self._bias)
        i, j, f, o = array_ops.split(gates, 4, axis=1)
        new_c = c * math_ops.sigmoid(f + self._forget_bias) + math_ops.sigmoid(i) * self._activation(j)
        new_h = self._activation(new_c) * math_ops.sigmoid(o)
        return new_h, LSTMStateTuple(new_c, new_h) if self._state_is_tuple else array_ops.concat([new_c, new_h], 1)


class LSTMCell(LayerRNNCell):
    """Long short-term memory with peepholes, clipping and a projection of the output (Sak et al. 2014).

    Variables: kernel [depth + output, 4 num_units], bias [4 num_units] (zeros); with peepholes w_f_diag, w_i_diag, w_o_diag
    [num_units]; with a projection projection/kernel [num_units, num_proj].

    Args:
        use_peepholes: the gates see c: forget and input gate the old one, output gate the new one.
        cell_clip: c is clipped to [-cell_clip, cell_clip].
        initializer: of all weights but the bias.
        num_proj: size of the output, a projection of h.
        proj_clip: the projection is clipped to [-proj_clip, proj_clip].
        num_unit_shards, num_proj_shards: accepted; variables are not split.
        forget_bias: added to the forget gate.  0 for weights of a CudnnLSTM.
        state_is_tuple: the state is an LSTMStateTuple; else one tensor of c and h.
    """

    def __init__(self, num_units: int, use_peepholes: bool = False, cell_clip: float | None = None, initializer: Any = None,
                 num_proj: int | None = None, proj_clip: float | None = None, num_unit_shards: int | None = None,
                 num_proj_shards: int | None = None, forget_bias: float = 1.0, state_is_tuple: bool = True, activation: Any = None,
                 reuse: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any):
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._use_peepholes, self._cell_clip, self._initializer = num_units, use_peepholes, cell_clip, initializer
        self._num_proj, self._proj_clip, self._forget_bias, self._state_is_tuple = num_proj, proj_clip, forget_bias, state_is_tuple
        self._activation = activation_of(activation, math_ops.tanh)

    @property
    def state_size(self) -> Any:
        sizes = self._num_units, self.output_size
        return LSTMStateTuple(*sizes) if self._state_is_tuple else sum(sizes)

    output_size = property(lambda self: self._num_proj or self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        n = self._num_units
        self._kernel = self.add_weight("kernel", [depth_of(input_shape) + self.output_size, 4 * n], initializer=self._initializer)
        self._bias = self.add_weight("bias", [4 * n], initializer=zeros_initializer())
        if self._use_peepholes:
            self._f_diag, self._i_diag, self._o_diag = (self.add_weight(f"w_{gate}_diag", [n], initializer=self._initializer)
                                                        for gate in "fio")
        if self._num_proj:
            self._proj_kernel = self.add_weight("projection/kernel", [n, self._num_proj], initializer=self._initializer)
        self.built = True

    def call(self, inputs: Tensor, state: Any) -> Any:
        _check_floats([inputs, state])
        sigmoid, act = math_ops.sigmoid, self._activation
        c, h = pair_of(self, state) if self._state_is_tuple else array_ops.split(state, [self._num_units, self.output_size], axis=1)
        gates = nn.bias_add(matmul(array_ops.concat([inputs, h], 1), self._kernel), self._bias)
        i, j, f, o = array_ops.split(gates, 4, axis=1)
        f = f + self._forget_bias
        if self._use_peepholes:
            f, i = f + self._f_diag * c, i + self._i_diag * c
        new_c = sigmoid(f) * c + sigmoid(i) * act(j)
        if self._cell_clip is not None:
            new_c = math_ops.clip_by_value(new_c, -self._cell_clip, self._cell_clip)
        if self._use_peepholes:
            o = o + self._o_diag * new_c
        new_h = sigmoid(o) * act(new_c)
        if self._num_proj:
            new_h = matmul(new_h, self._proj_kernel)
            if self._proj_clip is not None:
                new_h = math_ops.clip_by_value(new_h, -self._proj_clip, self._proj_clip)
        return new_h, LSTMStateTuple(new_c, new_h) if self._state_is_tuple else array_ops.concat([new_c, new_h], 1)


# ---------------------------------------------------------------- cells of cells


def _weights_of(cells: Sequence[Any], what: str) -> list[Any]:
    return [w for cell in cells if isinstance(cell, Layer) for w in getattr(cell, what)]


class MultiRNNCell(RNNCell):
    """Cells one above the other: each takes the output of the one below, the state is the tuple of their states.

    Variables: those of cell k below multi_rnn_cell/cell_k.

    Args:
        state_is_tuple: False joins the states, which must be single tensors, along their columns.

    Raises:
        ValueError: no cells, or states that are tuples while `state_is_tuple` is False.  TypeError: no list or tuple of cells.
    """

    def __init__(self, cells: Sequence[Any], state_is_tuple: bool = True):
        super().__init__()
        if not cells:
            raise ValueError("Must specify at least one cell for MultiRNNCell.")
        if not nest.is_sequence(cells):
            raise TypeError(f"cells must be a list or tuple, but saw: {cells}.")
        if len({id(cell) for cell in cells}) < len(cells):
            from .platform import logging

            logging.log_first_n(logging.WARN, "At least two cells provided to MultiRNNCell are the same object and will share weights.", 1)
        self._cells, self._state_is_tuple = cells, state_is_tuple
        if not state_is_tuple and any(nest.is_sequence(cell.state_size) for cell in cells):
            raise ValueError("Some cells return tuples of states, but the flag state_is_tuple is not set.  State sizes are: "
                             f"{[cell.state_size for cell in cells]}")

    @property
    def state_size(self) -> Any:
        sizes = tuple(cell.state_size for cell in self._cells)
        return sizes if self._state_is_tuple else sum(sizes)

    output_size = property(lambda self: self._cells[-1].output_size)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        if not self._state_is_tuple:
            return super().zero_state(batch_size, dtype)
        with graph.get_default_graph().name_scope(type(self).__name__ + "ZeroState"):
            return tuple(cell.zero_state(batch_size, dtype) for cell in self._cells)

    @property
    def trainable_weights(self) -> list[Any]:
        return _weights_of(self._cells, "trainable_weights") if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Any]:
        frozen = [] if self.trainable else _weights_of(self._cells, "trainable_weights")
        return frozen + _weights_of(self._cells, "non_trainable_weights")

    def call(self, inputs: Any, state: Any) -> Any:
        if self._state_is_tuple:
            if not nest.is_sequence(state) or len(state) != len(self._cells):
                raise ValueError(f"Expected state to be a tuple of length {len(self._cells)}, but received: {state}")
            states = list(state)
        else:
            states = array_ops.split(state, [cell.state_size for cell in self._cells], axis=1)
        news = []
        for k, cell in enumerate(self._cells):
            with variable_scope(f"cell_{k}"):
                inputs, new = cell(inputs, states[k])
            news.append(new)
        return inputs, tuple(news) if self._state_is_tuple else array_ops.concat(news, 1)


class CellWrapper(RNNCell):
    """A cell that does something around another's step; it makes no variables and opens no scope."""

    def __init__(self, cell: Any, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        assert_like_rnncell("cell", cell)
        self.cell = cell

    state_size = property(lambda self: self.cell.state_size)
    output_size = property(lambda self: self.cell.output_size)
    wrapped_cell = property(lambda self: self.cell)
    trainable_weights = property(lambda self: _weights_of([self.cell], "trainable_weights") if self.trainable else [])

    @property
    def non_trainable_weights(self) -> list[Any]:
        frozen = [] if self.trainable else _weights_of([self.cell], "trainable_weights")
        return frozen + _weights_of([self.cell], "non_trainable_weights")

    def build(self, input_shape: Any) -> None:
        self.cell.build(input_shape)
        self.built = True

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        with graph.get_default_graph().name_scope(type(self).__name__ + "ZeroState"):
            return self.cell.zero_state(batch_size, dtype)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        return self.call(inputs, state, scope=scope)


def _not_the_memory(state: Any) -> Any:
    """Which states of a cell DropoutWrapper drops: all but an LSTM's c and TensorArrays."""
    return LSTMStateTuple(c=False, h=True) if isinstance(state, LSTMStateTuple) else not isinstance(state, TensorArray)


def _chosen(visitor: Callable[[Any], Any], structure: Any) -> Any:
    """`structure` as far as `visitor` goes into it, with a bool in place of each part it stops at."""
    found = visitor(structure)
    if found is False or not nest.is_sequence(structure):
        return found
    parts = nest.flatten_up_to(_one_level(structure), structure)
    go = [True] * len(parts) if found is True else nest.flatten_up_to(_one_level(structure), found)
    return nest.pack_sequence_as(_one_level(structure), [_chosen(visitor, p) if g else False for p, g in zip(parts, go)])


def _one_level(structure: Any) -> Any:
    """The structure with plain leaves in place of its parts."""
    if isinstance(structure, dict):
        return type(structure)((k, 0) for k in structure)
    return type(structure)(*[0 for _ in structure]) if hasattr(structure, "_fields") else type(structure)(0 for _ in structure)


class DropoutWrapper(CellWrapper):
    """Drops inputs, outputs and states of a cell.

    Args:
        input_keep_prob, output_keep_prob, state_keep_prob: the probability of keeping an element, a float or a scalar tensor.  The
            state that is dropped is the new one, before it reaches the next step; the output is not affected by that.
        variational_recurrent: the same elements are dropped at every step (Gal and Ghahramani 2016) of a run.
        input_size: depth (or TensorShape, or nesting of them) of the inputs, needed for variational dropout of inputs.
        dtype: of inputs, state and output, needed when `variational_recurrent`.
        seed: an int.
        dropout_state_filter_visitor: takes the state and says what to drop: a bool, or a bool for each part of it; it is then asked
            for those parts too.  By default everything but the c of LSTMs and TensorArrays.

    Raises:
        TypeError: no cell, or a visitor that is no function.
        ValueError: a probability outside [0, 1]; no `dtype` or `input_size` where they are needed.
    """

    def __init__(self, cell: Any, input_keep_prob: Any = 1.0, output_keep_prob: Any = 1.0, state_keep_prob: Any = 1.0,
                 variational_recurrent: bool = False, input_size: Any = None, dtype: Any = None, seed: int | None = None,
                 dropout_state_filter_visitor: Any = None, **kwargs: Any):
        super().__init__(cell, dtype=dtype, **kwargs)
        if dropout_state_filter_visitor is not None and not callable(dropout_state_filter_visitor):
            raise TypeError("dropout_state_filter_visitor must be callable")
        self._visitor, self._variational, self._seed = dropout_state_filter_visitor or _not_the_memory, variational_recurrent, seed
        with graph.get_default_graph().name_scope("DropoutWrapperInit"):
            self._keep = {"input": self._probability("input_keep_prob", input_keep_prob),
                          "state": self._probability("state_keep_prob", state_keep_prob),
                          "output": self._probability("output_keep_prob", output_keep_prob)}
            self._noise: dict[str, Any] = {"input": None, "state": None, "output": None}
            if not variational_recurrent:
                return
            if dtype is None:
                raise ValueError("When variational_recurrent=True, dtype must be provided")
            sizes = {"state": cell.state_size, "output": cell.output_size}
            if self._drops("input"):
                if input_size is None:
                    raise ValueError("When variational_recurrent=True and input_keep_prob < 1.0 or is unknown, input_size must be provided")
                sizes["input"] = input_size
            for what, size in sizes.items():
                draws = [self._draw(s, dtype, self._seed_of(what, i)) for i, s in enumerate(nest.flatten(size))]
                self._noise[what] = nest.pack_sequence_as(size, draws)

    @staticmethod
    def _probability(what: str, given: Any) -> Any:
        if isinstance(given, Tensor) or hasattr(given, "handle"):
            given = convert_to_tensor(given)
            value = constant_value(given)
        else:
            value = given
        if value is None:
            return given
        if not 0 <= value <= 1:
            raise ValueError(f"Parameter {what} must be between 0 and 1: {float(value):g}")
        return float(value)

    @staticmethod
    def _draw(size: Any, dtype: Any, seed: int | None) -> Tensor:
        from .random_ops import random_uniform

        tail = [size] if isinstance(size, numbers.Integral) else types.TensorShape(size).as_list()
        return random_uniform([1, *tail], seed=seed, dtype=types.as_dtype(dtype))

    def _seed_of(self, what: str, index: int) -> int | None:
        """A seed for each tensor that is dropped, TF1's."""
        if self._seed is None:
            return None
        return int(hashlib.md5(f"{self._seed}{what}_{index}".encode()).hexdigest()[:8], 16) & 0x7FFFFFFF

    def _drops(self, what: str) -> bool:
        return not isinstance(self._keep[what], float) or self._keep[what] < 1

    def _dropped(self, what: str, values: Any, chosen: Any = None) -> Any:
        """`values` with dropout in the parts `chosen` (a bool for each); all of them by default."""
        if not self._drops(what):
            return values
        chosen = nest.map_structure(lambda _: True, values) if chosen is None else chosen
        parts = nest.flatten_up_to(chosen, values)
        noises = nest.flatten_up_to(chosen, self._noise[what]) if self._variational else [None] * len(parts)
        return nest.pack_sequence_as(chosen, [self._drop(what, i, v, noise) if c else v for i, (c, v, noise) in
                                              enumerate(zip(nest.flatten(chosen), parts, noises))])

    def _drop(self, what: str, index: int, value: Tensor, noise: Tensor | None) -> Tensor:
        keep = self._keep[what]
        if noise is None:
            return nn.dropout(value, rate=1.0 - keep, seed=self._seed_of(what, index))
        found = value / keep * math_ops.floor(keep + noise)
        found.set_shape(value.shape)
        return found

    def call(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        output, new = self.cell(self._dropped("input", inputs), state, scope=scope)
        if self._drops("state"):
            new = self._dropped("state", new, _chosen(self._visitor, new))
        return self._dropped("output", output), new


class ResidualWrapper(CellWrapper):
    """Adds the inputs to the outputs of a cell.

    Args:
        residual_fn: takes (inputs, outputs), in place of the sum.

    Raises:
        ValueError, TypeError: outputs of another structure or shape than the inputs.
    """

    def __init__(self, cell: Any, residual_fn: Any = None, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self._residual_fn = residual_fn

    def call(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        outputs, new = self.cell(inputs, state, scope=scope)
        return (self._residual_fn or self._sum)(inputs, outputs), new

    @staticmethod
    def _sum(inputs: Any, outputs: Any) -> Any:
        nest.assert_same_structure(inputs, outputs)
        for x, y in zip(nest.flatten(inputs), nest.flatten(outputs)):
            x.shape.assert_is_compatible_with(y.shape)
        return nest.map_structure(lambda x, y: x + y, inputs, outputs)


class DeviceWrapper(CellWrapper):
    """A cell whose ops stand under `tf.device(device)`."""

    def __init__(self, cell: Any, device: Any, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self._device = device

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        with framework.device(self._device):
            return super().zero_state(batch_size, dtype)

    def call(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        with framework.device(self._device):
            return self.cell(inputs, state, scope=scope)
