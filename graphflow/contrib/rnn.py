"""`tf.contrib.rnn`: the cells of `tf.nn.rnn_cell` and more of them, static networks, fused cells, stacks of bidirectional networks.

Written on rnn_cell.py and rnn.py.  Variables have TF1's names and shapes.
"""
from __future__ import annotations

import abc
import math
from typing import Any, Sequence

from .. import array_ops, control_flow_ops, framework, graph, math_ops, nest, nn, rnn, types
from ..check_ops import assert_less_equal
from ..custom_gradient import custom_gradient
from ..graph import Tensor
from ..init_ops import constant_initializer, random_uniform_initializer, zeros_initializer
from ..layers.base import Layer
from ..ops.contraction import matmul
from ..ops.opdef import constant, convert_to_tensor
from ..rnn import best_effort_input_batch_size, static_bidirectional_rnn, static_rnn, static_state_saving_rnn, transpose_batch_time
from ..rnn_cell import (BasicLSTMCell, BasicRNNCell, CellWrapper, DeviceWrapper, DropoutWrapper, GRUCell, LayerRNNCell, LSTMCell,
                        LSTMStateTuple, MultiRNNCell, ResidualWrapper, RNNCell, activation_of, assert_like_rnncell, depth_of, pair_of,
                        zeros)
from ..tensor_array_ops import TensorArray
from ..variable_scope import get_variable, get_variable_scope, variable_scope
from . import _old_layout

__all__ = ["AttentionCellWrapper", "BasicLSTMCell", "BasicRNNCell", "CompiledWrapper", "Conv1DLSTMCell", "Conv2DLSTMCell",
           "Conv3DLSTMCell", "ConvLSTMCell", "CoupledInputForgetGateLSTMCell", "DeviceWrapper", "DropoutWrapper", "EmbeddingWrapper",
           "FusedRNNCell", "FusedRNNCellAdaptor", "GRUBlockCell", "GRUBlockCellV2", "GRUCell", "HighwayWrapper", "IndRNNCell",
           "InputProjectionWrapper", "IntersectionRNNCell", "LSTMBlockCell", "LSTMBlockFusedCell", "LSTMBlockWrapper", "LSTMCell",
           "LSTMStateTuple", "LayerNormBasicLSTMCell", "LayerRNNCell", "MultiRNNCell", "NASCell", "OutputProjectionWrapper", "RNNCell",
           "ResidualWrapper", "TimeReversedFusedRNN", "UGRNNCell", "best_effort_input_batch_size", "stack_bidirectional_dynamic_rnn",
           "stack_bidirectional_rnn", "static_bidirectional_rnn", "static_rnn", "static_state_saving_rnn", "transpose_batch_time"]


def _missing(name: str) -> Any:
    from .. import errors

    raise AttributeError(f"module 'graphflow.contrib.rnn' has no attribute {name!r}: tf.contrib.rnn.{name} is not in this release."
                         f"{errors.suggest(name, __all__)}")


__getattr__ = _old_layout(__name__, _missing)


def _linear(args: Any, output_size: int, bias: bool = True) -> Tensor:
    """args joined along columns, times the variable "kernel", plus the variable "bias" (zeros)."""
    args = list(args) if isinstance(args, (list, tuple)) else [args]
    for x in args:
        if x.shape.ndims != 2 or x.shape[1].value is None:
            raise ValueError(f"linear is expecting 2D arguments with known columns: {[a.shape for a in args]}")
    x = args[0] if len(args) == 1 else array_ops.concat(args, 1)
    found = matmul(x, get_variable("kernel", [x.shape[1].value, output_size], dtype=x.dtype))
    if not bias:
        return found
    return nn.bias_add(found, get_variable("bias", [output_size], dtype=x.dtype, initializer=zeros_initializer()))


# ---------------------------------------------------------------- cells in one piece


def _passed_on(c: Tensor, clip: float) -> Tensor:
    """c clipped, with the gradient of what is not clipped: as the kernels of TF1's block cells."""
    return custom_gradient(lambda x: (math_ops.clip_by_value(x, -clip, clip), lambda dy: dy))(c)


class _Block:
    """Variables and step of the LSTM cells in one piece: those of `LSTMCell`."""

    def __init__(self, layer: Layer, depth: int, n: int, forget_bias: float, clip: float | None, use_peephole: bool):
        self.forget_bias, self.clip = forget_bias, clip
        self.kernel = layer.add_variable("kernel", [depth + n, 4 * n])
        self.bias = layer.add_variable("bias", [4 * n], initializer=zeros_initializer())
        self.diagonals = [layer.add_variable(f"w_{gate}_diag", [n]) for gate in "ifo"] if use_peephole else None

    def step(self, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The new c and h."""
        sigmoid, tanh = math_ops.sigmoid, math_ops.tanh
        i, j, f, o = array_ops.split(nn.bias_add(matmul(array_ops.concat([x, h], 1), self.kernel), self.bias), 4, axis=1)
        f = f + self.forget_bias
        if self.diagonals:
            i, f = i + c * self.diagonals[0], f + c * self.diagonals[1]
        new = tanh(j) * sigmoid(i) + c * sigmoid(f)
        if self.clip is not None and self.clip > 0:
            new = _passed_on(new, self.clip)
        if self.diagonals:
            o = o + new * self.diagonals[2]
        return new, tanh(new) * sigmoid(o)


class LSTMBlockCell(LayerRNNCell):
    """`LSTMCell` without projection; its variables have the same names, below "lstm_cell" by default.

    Args:
        cell_clip: c is clipped to [-cell_clip, cell_clip] if positive.  Unlike `LSTMCell`, gradients pass the clipping unchanged.
        use_peephole: the gates see c.
    """

    def __init__(self, num_units: int, forget_bias: float = 1.0, cell_clip: float | None = None, use_peephole: bool = False,
                 dtype: Any = None, reuse: Any = None, name: str = "lstm_cell"):
        super().__init__(_reuse=reuse, dtype=dtype, name=name)
        self._num_units, self._arguments = num_units, (num_units, forget_bias, cell_clip, use_peephole)

    state_size = property(lambda self: LSTMStateTuple(self._num_units, self._num_units))
    output_size = property(lambda self: self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        self._block = _Block(self, depth_of(input_shape), *self._arguments)
        self.built = True

    def call(self, inputs: Tensor, state: Any) -> Any:
        c, h = self._block.step(inputs, *pair_of(self, state))
        return h, LSTMStateTuple(c, h)


class GRUBlockCell(LayerRNNCell):
    """`GRUCell` with tanh.

    Variables: w_ru [depth + num_units, 2 num_units], b_ru (ones), w_c [depth + num_units, num_units], b_c (zeros), below "gru_cell".

    Raises:
        ValueError: neither or both of `num_units` and `cell_size`, its old name.
    """

    _names = ("w_ru", "b_ru", "w_c", "b_c")

    def __init__(self, num_units: int | None = None, cell_size: int | None = None, reuse: Any = None, name: str = "gru_cell",
                 dtype: Any = None):
        super().__init__(_reuse=reuse, name=name, dtype=dtype)
        if (cell_size is None) == (num_units is None):
            raise ValueError("Exactly one of num_units or cell_size must be provided.")
        self._cell_size: int = num_units or cell_size  # type: ignore[assignment]

    state_size = property(lambda self: self._cell_size)
    output_size = property(lambda self: self._cell_size)

    def build(self, input_shape: types.TensorShape) -> None:
        n, rows = self._cell_size, depth_of(input_shape) + self._cell_size
        self._gate_kernel = self.add_variable(self._names[0], [rows, 2 * n])
        self._gate_bias = self.add_variable(self._names[1], [2 * n], initializer=constant_initializer(1.0))
        self._candidate_kernel = self.add_variable(self._names[2], [rows, n])
        self._candidate_bias = self.add_variable(self._names[3], [n], initializer=zeros_initializer())
        self.built = True

    def call(self, inputs: Tensor, h_prev: Tensor) -> Any:
        if h_prev.shape.with_rank(2)[1].value != self._cell_size:
            raise ValueError(f"Shape of h_prev[1] incorrect: cell_size {self._cell_size} vs {h_prev.shape[1]}")
        gates = math_ops.sigmoid(nn.bias_add(matmul(array_ops.concat([inputs, h_prev], 1), self._gate_kernel), self._gate_bias))
        r, u = array_ops.split(gates, 2, axis=1)
        c = math_ops.tanh(nn.bias_add(matmul(array_ops.concat([inputs, h_prev * r], 1), self._candidate_kernel), self._candidate_bias))
        new = (1 - u) * c + u * h_prev
        return new, new


class GRUBlockCellV2(GRUBlockCell):
    """`GRUBlockCell` with the variable names of `GRUCell`."""

    _names = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")


# ---------------------------------------------------------------- networks in one piece


class FusedRNNCell(abc.ABC):
    """A whole network over time: called with (inputs [time, batch, depth] or a list, initial_state, dtype, sequence_length, scope)."""

    @abc.abstractmethod
    def __call__(self, inputs: Any, initial_state: Any = None, dtype: Any = None, sequence_length: Any = None, scope: Any = None) -> Any:
        """The outputs, of the form of `inputs`, and the final state."""


class FusedRNNCellAdaptor(FusedRNNCell):
    """An RNNCell as a network: by `dynamic_rnn` or by `static_rnn`, for which the number of steps must be known."""

    def __init__(self, cell: Any, use_dynamic_rnn: bool = False):
        self._cell, self._dynamic = cell, use_dynamic_rnn

    def __call__(self, inputs: Any, initial_state: Any = None, dtype: Any = None, sequence_length: Any = None, scope: Any = None) -> Any:
        is_list = isinstance(inputs, list)
        same = {"initial_state": initial_state, "dtype": dtype, "sequence_length": sequence_length, "scope": scope}
        if self._dynamic:
            outputs, state = rnn.dynamic_rnn(self._cell, array_ops.stack(inputs) if is_list else inputs, time_major=True, **same)
            return array_ops.unstack(outputs) if is_list else outputs, state
        outputs, state = static_rnn(self._cell, inputs if is_list else array_ops.unstack(inputs), **same)
        return outputs if is_list else array_ops.stack(outputs), state


class TimeReversedFusedRNN(FusedRNNCell):
    """A network run backward in time, each sequence from its own end."""

    def __init__(self, cell: Any):
        self._cell = cell

    @staticmethod
    def _reverse(x: Any, lengths: Any) -> Any:
        if isinstance(x, list):
            return list(reversed(x))
        return array_ops.reverse(x, [0]) if lengths is None else array_ops.reverse_sequence(x, lengths, 0, 1)

    def __call__(self, inputs: Any, initial_state: Any = None, dtype: Any = None, sequence_length: Any = None, scope: Any = None) -> Any:
        outputs, state = self._cell(self._reverse(inputs, sequence_length), initial_state=initial_state, dtype=dtype,
                                    sequence_length=sequence_length, scope=scope)
        return self._reverse(outputs, sequence_length), state


class LSTMBlockWrapper(Layer):
    """Base of LSTM networks in one piece: subclasses have the property `num_units` and `_call_cell`."""

    ndim = 3

    @property
    def num_units(self) -> int:
        """The size of c and h."""
        raise NotImplementedError("Abstract method")

    def _call_cell(self, inputs: Tensor, initial_cell_state: Tensor, initial_output: Tensor, dtype: Any, sequence_length: Any) -> Any:
        """The values of c and of h after each step, two tensors [time, batch, num_units]."""
        raise NotImplementedError("Abstract method")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the network.

        Args:
            inputs: [time, batch, depth], or a list of time tensors [batch, depth].
            initial_state: (c, h); zeros of `dtype` by default.
            dtype: of the state.
            sequence_length: int vector [batch], at most time; past the end of a sequence outputs are zero.
            scope: of the variables.

        Returns:
            The outputs, of the form of `inputs`, and the final LSTMStateTuple.

        Raises:
            ValueError: neither `initial_state` nor `dtype`, a state that is no pair, inputs of unknown depth or another rank.
            InvalidArgumentError, when run: a length greater than the number of steps.
        """
        is_list = isinstance(inputs, list)
        outputs, state = super().__call__(array_ops.stack(inputs) if is_list else inputs, *args, **kwargs)
        return array_ops.unstack(outputs) if is_list else outputs, state

    def call(self, inputs: Tensor, initial_state: Any = None, dtype: Any = None, sequence_length: Any = None) -> Any:
        steps, batch = (array_ops.shape(inputs)[i] if inputs.shape[i].value is None else inputs.shape[i].value for i in (0, 1))
        if initial_state is None:
            if dtype is None:
                raise ValueError("Either initial_state or dtype needs to be specified")
            first = zeros(batch, self.num_units, dtype)
            initial_state = first, first
        elif len(initial_state) != 2:
            raise ValueError("Expecting initial_state to be a tuple with length 2 or None")
        c, h = map(convert_to_tensor, initial_state)
        if sequence_length is None:
            cs, hs = self._call_cell(inputs, c, h, c.dtype if dtype is None else dtype, None)
            return hs, LSTMStateTuple(cs[-1], hs[-1])
        lengths = math_ops.cast(convert_to_tensor(sequence_length), types.int32)
        with graph.get_default_graph().control_dependencies([assert_less_equal(lengths, steps)]):
            lengths = array_ops.identity(lengths)
        cs, hs = self._call_cell(inputs, c, h, c.dtype if dtype is None else dtype, lengths)
        inside = array_ops.transpose(array_ops.sequence_mask(lengths, steps, dtype=hs.dtype), [1, 0])
        hs = hs * array_ops.expand_dims(inside, -1)
        # The state after `length` steps is row `length` of what the first state stands before.
        at = array_ops.stack([lengths, array_ops.range(batch)], axis=1)
        final = [array_ops.gather_nd(array_ops.concat([array_ops.expand_dims(first, 0), x], 0), at) for first, x in ((c, cs), (h, hs))]
        return hs, LSTMStateTuple(*final)


class LSTMBlockFusedCell(LSTMBlockWrapper):
    """`LSTMBlockCell` over all time steps, with the variables of `LSTMCell` below "lstm_fused_cell"."""

    def __init__(self, num_units: int, forget_bias: float = 1.0, cell_clip: float | None = None, use_peephole: bool = False,
                 reuse: Any = None, dtype: Any = None, name: str = "lstm_fused_cell"):
        super().__init__(_reuse=reuse, name=name, dtype=dtype)
        self._num_units, self._arguments = num_units, (num_units, forget_bias, cell_clip, use_peephole)

    num_units = property(lambda self: self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        self._block = _Block(self, depth_of(input_shape), *self._arguments)
        self.built = True

    def _call_cell(self, inputs: Tensor, initial_cell_state: Tensor, initial_output: Tensor, dtype: Any = None,
                   sequence_length: Any = None) -> Any:
        steps = array_ops.shape(inputs)[0] if inputs.shape[0].value is None else inputs.shape[0].value
        bound = steps if sequence_length is None else math_ops.minimum(steps, math_ops.maximum(1, math_ops.reduce_max(sequence_length)))
        xs = TensorArray(inputs.dtype, steps, element_shape=inputs.shape[1:]).unstack(inputs)
        made = [TensorArray(s.dtype, steps, element_shape=s.shape) for s in (initial_cell_state, initial_output)]

        def body(time: Tensor, cs: TensorArray, hs: TensorArray, c: Tensor, h: Tensor) -> Any:
            c, h = self._block.step(xs.read(time), c, h)
            return time + 1, cs.write(time, c), hs.write(time, h), c, h

        _, cs, hs, _, _ = control_flow_ops.while_loop(lambda time, *_: time < bound, body,
                                                      (constant(0, types.int32), *made, initial_cell_state, initial_output),
                                                      parallel_iterations=32, maximum_iterations=steps)
        return cs.stack(), hs.stack()


# ---------------------------------------------------------------- wrappers with variables


class _Around(RNNCell):
    """A cell that adds a layer of its own before or after another's step, which stands in its scope."""

    def __init__(self, cell: Any, reuse: Any = None):
        super().__init__(_reuse=reuse)
        assert_like_rnncell("cell", cell)
        self._cell = cell

    state_size = property(lambda self: self._cell.state_size)
    output_size = property(lambda self: self._cell.output_size)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        with graph.get_default_graph().name_scope(type(self).__name__ + "ZeroState"):
            return self._cell.zero_state(batch_size, dtype)


class EmbeddingWrapper(_Around):
    """A cell that takes ids: their rows of the variable "embedding" [embedding_classes, embedding_size] are its inputs.

    Args:
        initializer: of the embedding; by default the scope's, else uniform of variance one.
    """

    def __init__(self, cell: Any, embedding_classes: int, embedding_size: int, initializer: Any = None, reuse: Any = None):
        super().__init__(cell, reuse)
        if embedding_classes <= 0 or embedding_size <= 0:
            raise ValueError(f"Both embedding_classes and embedding_size must be > 0: {embedding_classes}, {embedding_size}.")
        self._sizes, self._initializer = [embedding_classes, embedding_size], initializer

    def call(self, inputs: Tensor, state: Any) -> Any:
        initializer = self._initializer or get_variable_scope().initializer or random_uniform_initializer(-math.sqrt(3), math.sqrt(3))
        with framework.device("/cpu:0"):
            table = get_variable("embedding", self._sizes, initializer=initializer, dtype=nest.flatten(state)[0].dtype)
            return self._cell(nn.embedding_lookup(table, array_ops.reshape(inputs, [-1])), state)


class InputProjectionWrapper(_Around):
    """A cell whose inputs are first projected to `num_proj` columns.  Variables: kernel, bias."""

    def __init__(self, cell: Any, num_proj: int, activation: Any = None, input_size: Any = None, reuse: Any = None):
        super().__init__(cell, reuse)
        self._num_proj, self._activation = num_proj, activation

    def call(self, inputs: Tensor, state: Any) -> Any:
        projected = _linear(inputs, self._num_proj)
        return self._cell(self._activation(projected) if self._activation else projected, state)


class OutputProjectionWrapper(_Around):
    """A cell whose outputs are projected to `output_size` columns.  Variables: kernel, bias."""

    def __init__(self, cell: Any, output_size: int, activation: Any = None, reuse: Any = None):
        super().__init__(cell, reuse)
        if output_size < 1:
            raise ValueError(f"Parameter output_size must be > 0: {output_size}.")
        self._output_size, self._activation = output_size, activation

    output_size = property(lambda self: self._output_size)

    def call(self, inputs: Tensor, state: Any) -> Any:
        output, new = self._cell(inputs, state)
        projected = _linear(output, self._output_size)
        return self._activation(projected) if self._activation else projected, new


class AttentionCellWrapper(_Around):
    """A cell that attends to its last `attn_length` outputs (Bahdanau et al. 2014).

    Args:
        attn_size: size of an output and of what is attended to, by default `cell.output_size`.
        attn_vec_size: size of the hidden layer of the attention, by default `attn_size`.
        input_size: size of the layer that joins inputs and attention, by default that of the inputs.
        state_is_tuple: the state is (the cell's, the attention [batch, attn_size], the outputs [batch, attn_size * attn_length]);
            else these joined along their columns.

    Raises:
        ValueError: an `attn_length` that is not positive, or a cell with tuples as states while `state_is_tuple` is False.
    """

    def __init__(self, cell: Any, attn_length: int, attn_size: int | None = None, attn_vec_size: int | None = None,
                 input_size: int | None = None, state_is_tuple: bool = True, reuse: Any = None):
        super().__init__(cell, reuse)
        if nest.is_sequence(cell.state_size) and not state_is_tuple:
            raise ValueError("Cell returns tuple of states, but the flag state_is_tuple is not set. State size is: "
                             f"{cell.state_size}")
        if attn_length <= 0:
            raise ValueError(f"attn_length should be greater than zero, got {attn_length}")
        self._state_is_tuple, self._input_size, self._length = state_is_tuple, input_size, attn_length
        self._attn_size = cell.output_size if attn_size is None else attn_size
        self._attn_vec_size = self._attn_size if attn_vec_size is None else attn_vec_size

    @property
    def state_size(self) -> Any:
        sizes = self._cell.state_size, self._attn_size, self._attn_size * self._length
        return sizes if self._state_is_tuple else sum(sizes)

    output_size = property(lambda self: self._attn_size)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        return RNNCell.zero_state(self, batch_size, dtype)

    def call(self, inputs: Tensor, state: Any) -> Any:
        if not self._state_is_tuple:
            state = array_ops.split(state, [self._cell.state_size, self._attn_size, self._attn_size * self._length], axis=1)
        state, attention, past = state
        past = array_ops.reshape(past, [-1, self._length, self._attn_size])
        mixed = _linear([inputs, attention], self._input_size or inputs.shape[1].value)
        cell_output, new = self._cell(mixed, state)
        attention = self._attention(array_ops.concat(nest.flatten(new), 1) if self._state_is_tuple else new, past)
        with variable_scope("attn_output_projection"):
            output = _linear([cell_output, attention], self._attn_size)
        past = array_ops.concat([past[:, 1:], array_ops.expand_dims(output, 1)], 1)
        new_state = new, attention, array_ops.reshape(past, [-1, self._length * self._attn_size])
        return output, new_state if self._state_is_tuple else array_ops.concat(new_state, 1)

    def _attention(self, query: Tensor, past: Tensor) -> Tensor:
        """The mean of the rows of `past`, weighted by the softmax of v tanh(past k + query)."""
        with variable_scope("attention"):
            k = get_variable("attn_w", [1, 1, self._attn_size, self._attn_vec_size], dtype=query.dtype)
            v = get_variable("attn_v", [self._attn_vec_size], dtype=query.dtype)
            features = nn.conv2d(array_ops.expand_dims(past, 2), k, [1, 1, 1, 1], "SAME")
            y = array_ops.reshape(_linear(query, self._attn_vec_size), [-1, 1, 1, self._attn_vec_size])
            weights = nn.softmax(math_ops.reduce_sum(v * math_ops.tanh(features + y), [2, 3]))
            return math_ops.reduce_sum(array_ops.expand_dims(weights, -1) * past, 1)


class HighwayWrapper(_Around):
    """inputs * carry + outputs * transform (Srivastava et al. 2015).

    Variables, in the scope around: carry_w, carry_b, and transform_w, transform_b unless the gates are coupled.

    Args:
        couple_carry_transform_gates: transform = 1 - carry.
        carry_bias_init: first value of carry_b, the opposite of that of transform_b.
    """

    def __init__(self, cell: Any, couple_carry_transform_gates: bool = True, carry_bias_init: float = 1.0):
        super().__init__(cell)
        self._coupled, self._bias = couple_carry_transform_gates, carry_bias_init

    def _gate(self, x: Tensor, name: str, bias: float) -> Tensor:
        n = x.shape.with_rank(2)[1].value
        w = get_variable(f"{name}_w", [n, n], dtype=x.dtype)
        b = get_variable(f"{name}_b", [n], dtype=x.dtype, initializer=constant_initializer(bias))
        return math_ops.sigmoid(nn.xw_plus_b(x, w, b))

    def _highway(self, x: Tensor, y: Tensor) -> Tensor:
        x.shape.assert_is_compatible_with(y.shape)
        carry = self._gate(x, "carry", self._bias)
        transform = 1 - carry if self._coupled else self._gate(x, "transform", -self._bias)
        return x * carry + y * transform

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        outputs, new = self._cell(inputs, state, scope=scope)
        nest.assert_same_structure(inputs, outputs)
        return nest.map_structure(self._highway, inputs, outputs), new


class CompiledWrapper(CellWrapper):
    """The cell itself: everything is compiled here."""

    def __init__(self, cell: Any, compile_stateful: bool = False):
        super().__init__(cell)

    def call(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        return self.cell(inputs, state, scope=scope)


# ---------------------------------------------------------------- more cells


def _normed(x: Tensor, scope: str, gain: float, shift: float) -> Tensor:
    """Rows with mean 0 and variance 1, times scope/gamma plus scope/beta (Ba et al. 2016)."""
    with variable_scope(scope):
        size = [x.shape[-1].value]
        gamma = get_variable("gamma", size, dtype=x.dtype, initializer=constant_initializer(gain))
        beta = get_variable("beta", size, dtype=x.dtype, initializer=constant_initializer(shift))
        mean, variance = nn.moments(x, [-1], keep_dims=True)
        return nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3 if x.dtype is types.float16 else 1e-12)


class LayerNormBasicLSTMCell(RNNCell):
    """`BasicLSTMCell` with layer normalisation of gates and memory (Ba et al. 2016) and dropout of what is remembered
    (Semeniuta et al. 2016).

    Variables: kernel; gamma and beta below input, transform, forget, output and state; bias when `layer_norm` is False.
    """

    def __init__(self, num_units: int, forget_bias: float = 1.0, input_size: Any = None, activation: Any = math_ops.tanh,
                 layer_norm: bool = True, norm_gain: float = 1.0, norm_shift: float = 0.0, dropout_keep_prob: Any = 1.0,
                 dropout_prob_seed: int | None = None, reuse: Any = None):
        super().__init__(_reuse=reuse)
        self._num_units, self._forget_bias, self._activation = num_units, forget_bias, activation_of(activation, math_ops.tanh)
        self._layer_norm, self._gain, self._shift = layer_norm, norm_gain, norm_shift
        self._keep_prob, self._seed = dropout_keep_prob, dropout_prob_seed

    state_size = property(lambda self: LSTMStateTuple(self._num_units, self._num_units))
    output_size = property(lambda self: self._num_units)

    def _norm(self, x: Tensor, scope: str) -> Tensor:
        return _normed(x, scope, self._gain, self._shift) if self._layer_norm else x

    def call(self, inputs: Tensor, state: Any) -> Any:
        c, h = pair_of(self, state)
        x = array_ops.concat([inputs, h], 1)
        gates = matmul(x, get_variable("kernel", [x.shape[1].value, 4 * self._num_units], dtype=x.dtype))
        if not self._layer_norm:
            gates = nn.bias_add(gates, get_variable("bias", [4 * self._num_units], dtype=x.dtype))
        names = ("input", "transform", "forget", "output")
        i, j, f, o = (self._norm(g, name) for g, name in zip(array_ops.split(gates, 4, axis=1), names))
        g = self._activation(j)
        if not isinstance(self._keep_prob, (int, float)) or self._keep_prob < 1:
            g = nn.dropout(g, self._keep_prob, seed=self._seed)
        new_c = self._norm(c * math_ops.sigmoid(f + self._forget_bias) + math_ops.sigmoid(i) * g, "state")
        new_h = self._activation(new_c) * math_ops.sigmoid(o)
        return new_h, LSTMStateTuple(new_c, new_h)


def _shards(name: str, rows: int, columns: int, dtype: Any, count: int) -> Any:
    """The matrix whose rows are in the variables name_0, name_1, ..."""
    if count > rows:
        raise ValueError(f"Too many shards: shape={[rows, columns]}, num_shards={count}")
    parts = [get_variable(f"{name}_{k}", [rows // count + (k < rows % count), columns], dtype=dtype) for k in range(count)]
    return parts[0] if count == 1 else array_ops.concat(parts, 0)


class CoupledInputForgetGateLSTMCell(RNNCell):
    """An LSTM whose input gate is 1 - forget gate (Greff et al. 2015), with peepholes, projection and layer normalisation.

    Variables: W_0, W_1, ... (`num_unit_shards` parts of [depth + output, 3 num_units]), B [3 num_units]; W_F_diag and W_O_diag with
    peepholes; W_P_0, ... with a projection; gamma and beta below transform, forget, output and state with `layer_norm`.
    """

    def __init__(self, num_units: int, use_peepholes: bool = False, initializer: Any = None, num_proj: int | None = None,
                 proj_clip: float | None = None, num_unit_shards: int = 1, num_proj_shards: int = 1, forget_bias: float = 1.0,
                 state_is_tuple: bool = True, activation: Any = math_ops.tanh, reuse: Any = None, layer_norm: bool = False,
                 norm_gain: float = 1.0, norm_shift: float = 0.0):
        super().__init__(_reuse=reuse)
        self._num_units, self._use_peepholes, self._num_proj, self._proj_clip = num_units, use_peepholes, num_proj, proj_clip
        self._unit_shards, self._proj_shards, self._forget_bias = num_unit_shards, num_proj_shards, forget_bias
        self._state_is_tuple, self._activation = state_is_tuple, activation_of(activation, math_ops.tanh)
        self._layer_norm, self._gain, self._shift = layer_norm, norm_gain, norm_shift

    @property
    def state_size(self) -> Any:
        sizes = self._num_units, self.output_size
        return LSTMStateTuple(*sizes) if self._state_is_tuple else sum(sizes)

    output_size = property(lambda self: self._num_proj or self._num_units)

    def _norm(self, x: Tensor, scope: str) -> Tensor:
        return _normed(x, scope, self._gain, self._shift) if self._layer_norm else x

    def call(self, inputs: Tensor, state: Any) -> Any:
        n, sigmoid, act = self._num_units, math_ops.sigmoid, self._activation
        c, h = pair_of(self, state) if self._state_is_tuple else array_ops.split(state, [n, self.output_size], axis=1)
        x = array_ops.concat([inputs, h], 1)
        gates = matmul(x, _shards("W", depth_of(inputs.shape.with_rank(2)) + self.output_size, 3 * n, x.dtype, self._unit_shards))
        bias = get_variable("B", [3 * n], dtype=x.dtype, initializer=zeros_initializer())
        if not self._layer_norm:
            gates = nn.bias_add(gates, bias)
        j, f, o = (self._norm(g, name) for g, name in zip(array_ops.split(gates, 3, axis=1), ("transform", "forget", "output")))
        f = f + self._forget_bias
        if self._use_peepholes:
            f_diag, o_diag = (get_variable(f"W_{gate}_diag", [n], dtype=x.dtype) for gate in "FO")
            f = f + f_diag * c
        keep = sigmoid(f)
        new_c = self._norm(keep * c + (1 - keep) * act(j), "state")
        new_h = sigmoid(o + o_diag * new_c if self._use_peepholes else o) * act(new_c)
        if self._num_proj:
            new_h = matmul(new_h, _shards("W_P", n, self._num_proj, x.dtype, self._proj_shards))
            if self._proj_clip is not None:
                new_h = math_ops.clip_by_value(new_h, -self._proj_clip, self._proj_clip)
        return new_h, LSTMStateTuple(new_c, new_h) if self._state_is_tuple else array_ops.concat([new_c, new_h], 1)


class NASCell(RNNCell):
    """The cell found by architecture search (Zoph and Le 2017).

    Variables: recurrent_kernel [output, 8 num_units], kernel [depth, 8 num_units], bias (with `use_biases`), projection_weights.
    """

    def __init__(self, num_units: int, num_proj: int | None = None, use_biases: bool = False, reuse: Any = None):
        super().__init__(_reuse=reuse)
        self._num_units, self._num_proj, self._use_biases = num_units, num_proj, use_biases

    state_size = property(lambda self: LSTMStateTuple(self._num_units, self.output_size))
    output_size = property(lambda self: self._num_units if self._num_proj is None else self._num_proj)

    def call(self, inputs: Tensor, state: Any) -> Any:
        c, h = pair_of(self, state)
        n, dtype, sigmoid, tanh = self._num_units, inputs.dtype, math_ops.sigmoid, math_ops.tanh
        of_h = matmul(h, get_variable("recurrent_kernel", [self.output_size, 8 * n], dtype))
        of_x = matmul(inputs, get_variable("kernel", [depth_of(inputs.shape.with_rank(2)), 8 * n], dtype))
        if self._use_biases:
            of_h = nn.bias_add(of_h, get_variable("bias", [8 * n], dtype, initializer=zeros_initializer()))
        pairs = list(zip(array_ops.split(of_x, 8, axis=1), array_ops.split(of_h, 8, axis=1)))
        acts = (sigmoid, nn.relu, sigmoid, nn.relu, tanh, sigmoid, tanh, sigmoid)
        a = [act(x * y if k == 3 else x + y) for k, (act, (x, y)) in enumerate(zip(acts, pairs))]
        new_c = tanh(tanh(a[0] * a[1]) + c) * tanh(a[2] + a[3])
        new_h = tanh(new_c * tanh(tanh(a[4] * a[5]) + sigmoid(a[6] + a[7])))
        if self._num_proj is not None:
            new_h = matmul(new_h, get_variable("projection_weights", [n, self._num_proj], dtype))
        return new_h, LSTMStateTuple(new_c, new_h)


class UGRNNCell(RNNCell):
    """One gate between keeping the state and computing it (Collins et al. 2017).  Variables: kernel, bias."""

    def __init__(self, num_units: int, initializer: Any = None, forget_bias: float = 1.0, activation: Any = math_ops.tanh,
                 reuse: Any = None):
        super().__init__(_reuse=reuse)
        self._num_units, self._initializer, self._forget_bias = num_units, initializer, forget_bias
        self._activation = activation_of(activation, math_ops.tanh)

    state_size = property(lambda self: self._num_units)
    output_size = property(lambda self: self._num_units)

    def call(self, inputs: Tensor, state: Tensor) -> Any:
        with variable_scope(get_variable_scope(), initializer=self._initializer, auxiliary_name_scope=False):
            g, c = array_ops.split(_linear([inputs, state], 2 * self._num_units), 2, axis=1)
        g = math_ops.sigmoid(g + self._forget_bias)
        new = g * state + (1.0 - g) * self._activation(c)
        return new, new


class IntersectionRNNCell(RNNCell):
    """Gates through time and through depth (Collins et al. 2017), for stacks of layers of one size.

    Variables: kernel, bias; in_projection/kernel and in_projection/bias where the inputs have another size.

    Args:
        num_in_proj: project inputs of another size; for the first layer, equal to `num_units`.

    Raises:
        ValueError: inputs of another size than `num_units` without `num_in_proj`.
    """

    def __init__(self, num_units: int, num_in_proj: int | None = None, initializer: Any = None, forget_bias: float = 1.0,
                 y_activation: Any = nn.relu, reuse: Any = None):
        super().__init__(_reuse=reuse)
        self._num_units, self._num_in_proj, self._initializer = num_units, num_in_proj, initializer
        self._forget_bias, self._y_activation = forget_bias, activation_of(y_activation, nn.relu)

    state_size = property(lambda self: self._num_units)
    output_size = property(lambda self: self._num_units)

    def call(self, inputs: Tensor, state: Tensor) -> Any:
        with variable_scope(get_variable_scope(), initializer=self._initializer, auxiliary_name_scope=False):
            if depth_of(inputs.shape.with_rank(2)) != self._num_units:
                if not self._num_in_proj:
                    raise ValueError("Must have input size == output size for Intersection RNN. To fix, num_in_proj should be set to "
                                     "num_units at cell init.")
                with variable_scope("in_projection"):
                    inputs = _linear(inputs, self._num_units)
            gate_h, h, gate_y, y = array_ops.split(_linear([inputs, state], 4 * self._num_units), 4, axis=1)
        gate_h, gate_y = (math_ops.sigmoid(g + self._forget_bias) for g in (gate_h, gate_y))
        new_state = gate_h * state + (1.0 - gate_h) * math_ops.tanh(h)
        return gate_y * inputs + (1.0 - gate_y) * self._y_activation(y), new_state


class IndRNNCell(LayerRNNCell):
    """activation(inputs kernel_w + state * kernel_u + bias): units that see only their own past (Li et al. 2018).

    Variables: kernel_w [depth, num_units], kernel_u [1, num_units] (uniform in [-1, 1]), bias (zeros).
    """

    def __init__(self, num_units: int, activation: Any = None, reuse: Any = None, name: str | None = None, dtype: Any = None):
        super().__init__(_reuse=reuse, name=name, dtype=dtype)
        self._num_units, self._activation = num_units, activation_of(activation, math_ops.tanh)

    state_size = property(lambda self: self._num_units)
    output_size = property(lambda self: self._num_units)

    def build(self, input_shape: types.TensorShape) -> None:
        n = self._num_units
        self._kernel_w = self.add_variable("kernel_w", [depth_of(input_shape), n])
        self._kernel_u = self.add_variable("kernel_u", [1, n], initializer=random_uniform_initializer(-1, 1))
        self._bias = self.add_variable("bias", [n], initializer=zeros_initializer())
        self.built = True

    def call(self, inputs: Tensor, state: Tensor) -> Any:
        output = self._activation(nn.bias_add(matmul(inputs, self._kernel_w) + state * self._kernel_u, self._bias))
        return output, output


class ConvLSTMCell(RNNCell):
    """An LSTM over images: its products are convolutions with "SAME" padding (Shi et al. 2015).

    Variables: kernel [*kernel_shape, channels + output_channels, 4 output_channels], biases [4 output_channels] (zeros).

    Args:
        conv_ndims: 1, 2 or 3.
        input_shape: sizes of an input without the batch, channels last.
        skip_connection: the inputs are joined to the outputs (not to the state).

    Raises:
        ValueError: an `input_shape` of another rank than `conv_ndims` says.
    """

    def __init__(self, conv_ndims: int, input_shape: Sequence[int], output_channels: int, kernel_shape: Sequence[int],
                 use_bias: bool = True, skip_connection: bool = False, forget_bias: float = 1.0, initializers: Any = None,
                 name: str = "conv_lstm_cell"):
        super().__init__(name=name)
        if conv_ndims not in (1, 2, 3) or conv_ndims != len(input_shape) - 1:
            raise ValueError(f"Invalid input_shape {list(input_shape)} for conv_ndims={conv_ndims}.")
        self._space, self._channels, self._depth = [int(n) for n in input_shape[:-1]], output_channels, int(input_shape[-1])
        self._kernel_shape, self._use_bias, self._skip, self._forget_bias = list(kernel_shape), use_bias, skip_connection, forget_bias

    @property
    def state_size(self) -> Any:
        size = types.TensorShape([*self._space, self._channels])
        return LSTMStateTuple(size, size)

    @property
    def output_size(self) -> types.TensorShape:
        return types.TensorShape([*self._space, self._channels + (self._depth if self._skip else 0)])

    def call(self, inputs: Tensor, state: Any) -> Any:
        c, h = pair_of(self, state)
        x = array_ops.concat([inputs, h], -1)
        kernel = get_variable("kernel", [*self._kernel_shape, depth_of(x.shape), 4 * self._channels], dtype=x.dtype)
        gates = nn.convolution(x, kernel, "SAME")
        if self._use_bias:
            gates = gates + get_variable("biases", [4 * self._channels], dtype=x.dtype, initializer=zeros_initializer())
        i, j, f, o = array_ops.split(gates, 4, axis=len(self._space) + 1)
        new_c = math_ops.sigmoid(f + self._forget_bias) * c + math_ops.sigmoid(i) * math_ops.tanh(j)
        new_h = math_ops.tanh(new_c) * math_ops.sigmoid(o)
        return array_ops.concat([new_h, inputs], -1) if self._skip else new_h, LSTMStateTuple(new_c, new_h)


class Conv1DLSTMCell(ConvLSTMCell):
    """`ConvLSTMCell` of inputs [batch, width, channels]."""

    def __init__(self, name: str = "conv_1d_lstm_cell", **kwargs: Any):
        super().__init__(1, name=name, **kwargs)


class Conv2DLSTMCell(ConvLSTMCell):
    """`ConvLSTMCell` of inputs [batch, height, width, channels]."""

    def __init__(self, name: str = "conv_2d_lstm_cell", **kwargs: Any):
        super().__init__(2, name=name, **kwargs)


class Conv3DLSTMCell(ConvLSTMCell):
    """`ConvLSTMCell` of inputs [batch, depth, height, width, channels]."""

    def __init__(self, name: str = "conv_3d_lstm_cell", **kwargs: Any):
        super().__init__(3, name=name, **kwargs)


# ---------------------------------------------------------------- stacks of bidirectional networks


def _layers(cells_fw: Any, cells_bw: Any, states_fw: Any, states_bw: Any) -> list[tuple[Any, Any, Any, Any]]:
    """(cell forward, cell backward, state forward, state backward) of each layer.  Raises ValueError for lists that do not fit."""
    for word, cells in (("fw", cells_fw), ("bw", cells_bw)):
        if not cells:
            raise ValueError(f"Must specify at least one {word} cell for BidirectionalRNN.")
        if not isinstance(cells, list):
            raise ValueError(f"cells_{word} must be a list of RNNCells (one per layer).")
    if len(cells_fw) != len(cells_bw):
        raise ValueError("Forward and Backward cells must have the same depth.")
    for word, states in (("fw", states_fw), ("bw", states_bw)):
        if states is not None and (not isinstance(states, list) or len(states) != len(cells_fw)):
            raise ValueError(f"initial_states_{word} must be a list of state tensors (one per layer).")
    none = [None] * len(cells_fw)
    return list(zip(cells_fw, cells_bw, states_fw or none, states_bw or none))


def stack_bidirectional_rnn(cells_fw: list[Any], cells_bw: list[Any], inputs: Sequence[Any], initial_states_fw: Any = None,
                            initial_states_bw: Any = None, dtype: Any = None, sequence_length: Any = None,
                            scope: Any = None) -> tuple[list[Any], Any, Any]:
    """Static bidirectional networks one above the other: each takes the joined outputs of the one below.

    Variables go below stack_bidirectional_rnn/cell_k/fw and .../bw.

    Returns:
        The list of outputs of the last layer, and the tuples of final states forward and backward, one for each layer.

    Raises:
        ValueError: no lists of equally many cells, or of initial states.
    """
    finals = []
    layers = _layers(cells_fw, cells_bw, initial_states_fw, initial_states_bw)
    with variable_scope(scope or "stack_bidirectional_rnn"):
        for k, (fw, bw, state_fw, state_bw) in enumerate(layers):
            with variable_scope(f"cell_{k}") as inner:
                inputs, *final = static_bidirectional_rnn(fw, bw, inputs, state_fw, state_bw, dtype, sequence_length, scope=inner)
            finals.append(final)
    return inputs, tuple(f for f, _ in finals), tuple(b for _, b in finals)  # type: ignore[return-value]


def stack_bidirectional_dynamic_rnn(cells_fw: list[Any], cells_bw: list[Any], inputs: Any, initial_states_fw: Any = None,
                                    initial_states_bw: Any = None, dtype: Any = None, sequence_length: Any = None,
                                    parallel_iterations: int | None = None, time_major: bool = False, scope: Any = None,
                                    swap_memory: bool = False) -> tuple[Any, Any, Any]:
    """Dynamic bidirectional networks one above the other: each takes the joined outputs of the one below.

    Variables go below stack_bidirectional_rnn/cell_k/bidirectional_rnn/fw and .../bw.

    Returns:
        The outputs of the last layer [batch, time, ...], and the tuples of final states forward and backward, one for each layer.

    Raises:
        ValueError: no lists of equally many cells, or of initial states.
    """
    finals = []
    layers = _layers(cells_fw, cells_bw, initial_states_fw, initial_states_bw)
    with variable_scope(scope or "stack_bidirectional_rnn"):
        for k, (fw, bw, state_fw, state_bw) in enumerate(layers):
            with variable_scope(f"cell_{k}"):
                outputs, final = rnn.bidirectional_dynamic_rnn(
                    fw, bw, inputs, sequence_length, state_fw, state_bw, dtype, parallel_iterations, swap_memory, time_major)
                inputs = array_ops.concat(outputs, 2)
            finals.append(final)
    return inputs, tuple(f for f, _ in finals), tuple(b for _, b in finals)
