"""Recurrent networks over time: `tf.nn.dynamic_rnn` and its relatives.

A dynamic network is one loop over TensorArrays, a static one a copy of the cell for every step.  Written on the public API, as a
program could be; knows nothing of how loops are compiled.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

from . import array_ops, control_flow_ops, graph, math_ops, nest, types
from .check_ops import Assert
from .graph import Tensor
from .ops.opdef import constant, convert_to_tensor
from .rnn_cell import assert_like_rnncell, batched, zeros
from .tensor_array_ops import TensorArray
from .variable_scope import variable_scope

__all__ = ["bidirectional_dynamic_rnn", "dynamic_rnn", "raw_rnn", "static_bidirectional_rnn", "static_rnn", "static_state_saving_rnn"]


# ---------------------------------------------------------------- shapes


def transpose_batch_time(x: Tensor) -> Tensor:
    """The first two axes exchanged; a tensor of less than two axes as it is."""
    if x.shape.ndims is None:
        rank = array_ops.rank(x)
        return array_ops.transpose(x, array_ops.concat([[1, 0], array_ops.range(2, rank)], 0))
    if x.shape.ndims < 2:
        return x
    return array_ops.transpose(x, [1, 0, *range(2, x.shape.ndims)])


def best_effort_input_batch_size(inputs: Sequence[Tensor]) -> Any:
    """The batch size of time-major inputs: an int if one of them knows it, else a scalar tensor."""
    for x in inputs:
        if x.shape.ndims is not None and x.shape.ndims < 2:
            raise ValueError(f"Expected input tensor {x.name} to have rank at least 2, but saw shape: {x.shape}")
        if x.shape.ndims is not None and x.shape[1].value is not None:
            return x.shape[1].value
    return array_ops.shape(inputs[0])[1]


def _state_dtype(dtype: Any, state: Any) -> types.DType:
    """`dtype`, or that of all states.  Raises ValueError when they differ or there are none."""
    if dtype is not None:
        return types.as_dtype(dtype)
    found = [x.dtype for x in nest.flatten(state)]
    if not found:
        raise ValueError("Unable to infer dtype from empty state.")
    if any(d is not found[0] for d in found):
        raise ValueError("State has tensors of different inferred_dtypes. Unable to infer a single representative dtype.")
    return found[0]


def _as_tensors(structure: Any) -> Any:
    return nest.map_structure(lambda x: x if hasattr(x, "_components") else convert_to_tensor(x), structure)


def _first_state(cell: Any, state: Any, batch: Any, dtype: Any) -> Any:
    if state is not None:
        return _as_tensors(state)
    if dtype is None:
        raise ValueError("If there is no initial_state, you must give a dtype.")
    if getattr(cell, "get_initial_state", None) is not None:
        return cell.get_initial_state(inputs=None, batch_size=batch, dtype=dtype)
    return cell.zero_state(batch, dtype)


def _lengths(sequence_length: Any) -> Tensor:
    """The lengths as an int32 vector.  Raises ValueError for another rank."""
    lengths = math_ops.cast(convert_to_tensor(sequence_length), types.int32)
    if lengths.shape.ndims not in (None, 1):
        raise ValueError(f"sequence_length must be a vector of length batch_size, but saw shape: {lengths.shape}")
    return array_ops.identity(lengths, name="sequence_length")


# ---------------------------------------------------------------- one step of sequences of several lengths


def _step(time: Any, lengths: Tensor | None, zero_output: Any, state: Any, call_cell: Callable[[], Any]) -> tuple[Any, Any]:
    """Output and new state of a step; past the end of a sequence its output is zero and its state stays."""
    output, new_state = call_cell()
    if zero_output is not None:
        nest.assert_same_structure(zero_output, output)
    nest.assert_same_structure(state, new_state)
    if lengths is None:
        return output, new_state
    past = time >= lengths

    def chosen(old: Any, new: Any) -> Any:
        if isinstance(new, TensorArray) or old.shape.ndims == 0:
            return new  # scalars do not belong to one sequence
        found = array_ops.where(past, old, new)
        found.set_shape(old.shape)
        return found

    return nest.map_structure(chosen, zero_output, output), nest.map_structure(chosen, state, new_state)


# ---------------------------------------------------------------- loops


def dynamic_rnn(cell: Any, inputs: Any, sequence_length: Any = None, initial_state: Any = None, dtype: Any = None,
                parallel_iterations: int | None = None, swap_memory: bool = False, time_major: bool = False,
                scope: Any = None) -> tuple[Any, Any]:
    """Calls `cell` on one time step after the other, in a loop.

    Args:
        cell: an RNNCell.
        inputs: [batch, time, ...], or a nesting of such tensors; [time, batch, ...] when `time_major`.
        sequence_length: int vector [batch]; past the end of a sequence outputs are zero and its state is the last one.  A length
            greater than the number of steps counts as that number.
        initial_state: of the structure of `cell.state_size`; zeros by default, of the type `dtype`.
        dtype: of the initial state and the outputs; needed without `initial_state`.
        parallel_iterations: accepted.
        swap_memory: keep less of the forward pass for gradients and compute it again.
        scope: of the variables, "rnn" by default.

    Returns:
        The outputs [batch, time, ...] ([time, batch, ...] when `time_major`) in the structure of `cell.output_size`, and the final
        state.

    Raises:
        TypeError: `cell` is no RNNCell.
        ValueError: neither `initial_state` nor `dtype`; inputs of rank less than 3, of unknown depth or of different times or
            batches; `sequence_length` is no vector.
        InvalidArgumentError, when run: `sequence_length` has not one number for each sequence.
    """
    assert_like_rnncell("cell", cell)
    with variable_scope(scope or "rnn"):
        flat = [convert_to_tensor(x) for x in nest.flatten(inputs)]
        if not flat:
            raise ValueError("inputs must not be empty")
        if not time_major:
            flat = [transpose_batch_time(x) for x in flat]
        lengths = None if sequence_length is None else _lengths(sequence_length)
        batch = best_effort_input_batch_size(flat)
        state = _first_state(cell, initial_state, batch, dtype)
        if lengths is not None:
            lengths = _one_for_each(lengths, batch)
        outputs, final = _loop(cell, nest.pack_sequence_as(inputs, flat), state, batch, lengths, dtype, parallel_iterations or 32,
                               swap_memory)
        return outputs if time_major else nest.map_structure(transpose_batch_time, outputs), final


def _one_for_each(lengths: Tensor, batch: Any) -> Tensor:
    """The lengths, checked when run unless their number is known to be right."""
    if isinstance(batch, int) and lengths.shape.as_list() == [batch]:
        return lengths
    saw = array_ops.shape(lengths)
    right = math_ops.reduce_all(math_ops.equal(saw, array_ops.stack([batch])))
    check = Assert(right, [f"Expected shape for Tensor {lengths.name} is ", array_ops.stack([batch]), " but saw shape: ", saw])
    with graph.get_default_graph().control_dependencies([check]):
        return array_ops.identity(lengths, name="CheckSeqLen")


def _checked_sizes(flat: Sequence[Tensor]) -> tuple[int | None, int | None]:
    """Time steps and batch as far as known.  Raises ValueError when inputs differ or have an unknown depth."""
    shapes = [x.shape.with_rank_at_least(3) for x in flat]
    steps, batch = shapes[0].as_list()[:2]
    for s in shapes:
        if not s[2:].is_fully_defined():
            raise ValueError("Input size (depth of inputs) must be accessible via shape inference, but saw value None.")
        if s[0].value != steps:
            raise ValueError("Time steps is not the same for all the elements in the input in a batch.")
        if s[1].value != batch:
            raise ValueError("Batch_size is not the same for all the elements in the input.")
    return steps, batch


def _loop(cell: Any, inputs: Any, state: Any, batch: Any, lengths: Tensor | None, dtype: Any, parallel_iterations: int,
          swap_memory: bool) -> tuple[Any, Any]:
    """The loop of `dynamic_rnn`, over time-major inputs."""
    if not isinstance(parallel_iterations, int):
        raise TypeError("parallel_iterations must be int")
    flat = nest.flatten(inputs)
    known_steps, known_batch = _checked_sizes(flat)
    steps = array_ops.shape(flat[0])[0] if known_steps is None else known_steps
    sizes, out_dtype = nest.flatten(cell.output_size), _state_dtype(dtype, state)
    zero_output = None
    if lengths is not None:
        zero_output = nest.pack_sequence_as(cell.output_size, [zeros(batch, s, out_dtype) for s in sizes])

    time = constant(0, types.int32, name="time")
    elements = [batched(batch, s)[1] for s in sizes]
    with graph.get_default_graph().name_scope("dynamic_rnn"):
        output_tas = tuple(TensorArray(out_dtype, steps, element_shape=s, tensor_array_name=f"output_{i}") for i, s in enumerate(elements))
        input_tas = [TensorArray(x.dtype, steps, element_shape=x.shape[1:], tensor_array_name=f"input_{i}").unstack(x)
                     for i, x in enumerate(flat)]

    def body(time: Tensor, tas: Any, state: Any) -> Any:
        step = nest.pack_sequence_as(inputs, [ta.read(time) for ta in input_tas])
        output, new = _step(time, lengths, zero_output, state, lambda: cell(step, state))
        nest.assert_same_structure(cell.output_size, output)
        return time + 1, tuple(ta.write(time, out) for ta, out in zip(tas, nest.flatten(output))), new

    bound = steps
    if lengths is not None:  # one step at least, from which TensorArrays learn the shape of outputs
        bound = math_ops.minimum(steps, math_ops.maximum(1, math_ops.reduce_max(lengths)))
    _, output_tas, final = control_flow_ops.while_loop(
        lambda time, *_: time < bound, body, (time, output_tas, state), parallel_iterations=parallel_iterations,
        maximum_iterations=steps, swap_memory=swap_memory)
    outputs = [ta.stack() for ta in output_tas]
    for out, element in zip(outputs, elements):
        out.set_shape(types.TensorShape([known_steps]).concatenate(element))
    return nest.pack_sequence_as(cell.output_size, outputs), final


def bidirectional_dynamic_rnn(cell_fw: Any, cell_bw: Any, inputs: Any, sequence_length: Any = None, initial_state_fw: Any = None,
                              initial_state_bw: Any = None, dtype: Any = None, parallel_iterations: int | None = None,
                              swap_memory: bool = False, time_major: bool = False, scope: Any = None) -> tuple[Any, Any]:
    """`dynamic_rnn` of one cell forward and of another backward in time, each sequence from its own end.

    Args: as of `dynamic_rnn`.  Variables go below "bidirectional_rnn/fw" and "bidirectional_rnn/bw".

    Returns:
        (outputs forward, outputs backward) and (final state forward, final state backward).  Outputs backward stand at the time of
        their inputs.
    """
    assert_like_rnncell("cell_fw", cell_fw)
    assert_like_rnncell("cell_bw", cell_bw)
    time_axis, batch_axis = (0, 1) if time_major else (1, 0)

    def reversed_(x: Tensor) -> Tensor:
        if sequence_length is None:
            return array_ops.reverse(x, [time_axis])
        return array_ops.reverse_sequence(x, sequence_length, seq_axis=time_axis, batch_axis=batch_axis)

    same = {"sequence_length": sequence_length, "dtype": dtype, "parallel_iterations": parallel_iterations, "swap_memory": swap_memory,
            "time_major": time_major}
    with variable_scope(scope or "bidirectional_rnn"):
        inputs = nest.map_structure(convert_to_tensor, inputs) if nest.is_sequence(inputs) else convert_to_tensor(inputs)
        with variable_scope("fw") as fw:
            out_fw, state_fw = dynamic_rnn(cell_fw, inputs, initial_state=initial_state_fw, scope=fw, **same)
        with variable_scope("bw") as bw:
            found, state_bw = dynamic_rnn(cell_bw, nest.map_structure(reversed_, inputs), initial_state=initial_state_bw, scope=bw, **same)
        return (out_fw, nest.map_structure(reversed_, found)), (state_fw, state_bw)


def raw_rnn(cell: Any, loop_fn: Callable[..., Any], parallel_iterations: int | None = None, swap_memory: bool = False,
            scope: Any = None) -> tuple[Any, Any, Any]:
    """A loop whose inputs, states, outputs and end are what `loop_fn` says.

    Args:
        cell: an RNNCell.
        loop_fn: called as loop_fn(time, output, state, loop_state), first with (0, None, None, None), then after each step with the
            next time, and what the cell gave.  Returns
            - finished: bool [batch], which sequences have ended;
            - the next input;
            - the next state (first the initial one);
            - what to emit for this step, of the shape of one step with the batch in front (first: tensors without a batch, which say
              shape and dtype of what is emitted; None: the cell's outputs);
            - the next loop state, anything or None (to keep it).
        parallel_iterations: accepted.
        swap_memory: as for `dynamic_rnn`.
        scope: of the variables, "rnn" by default.

    Returns:
        TensorArrays of what was emitted, the final state, and the final loop state.  What a sequence emits after its end is zero, and
        its state stays.

    Raises:
        TypeError: no cell, or a `loop_fn` that is no function.  ValueError: structures that change from step to step.
    """
    assert_like_rnncell("cell", cell)
    if not callable(loop_fn):
        raise TypeError("loop_fn must be a callable")
    with variable_scope(scope or "rnn"):
        time = constant(0, types.int32)
        finished, first_input, state, emitted, given = loop_fn(time, None, None, None)
        first_input, state = _as_tensors(first_input), _as_tensors(state)
        loop_state = constant(0, types.int32) if given is None else given
        nest.assert_same_structure(state, cell.state_size)
        batch = _common_batch(nest.flatten(first_input))
        if emitted is None:
            structure, wanted = cell.output_size, [(s, nest.flatten(state)[0].dtype) for s in nest.flatten(cell.output_size)]
        else:
            emitted = _as_tensors(emitted)
            structure = emitted
            wanted = [(e.shape if e.shape.is_fully_defined() else array_ops.shape(e), e.dtype) for e in nest.flatten(emitted)]
        tas = [TensorArray(d, 0, dynamic_size=True, element_shape=batched(batch, s)[1], tensor_array_name=f"rnn_output_{i}")
               for i, (s, d) in enumerate(wanted)]
        zero = nest.pack_sequence_as(structure, [zeros(batch, s, d) for s, d in wanted])

        def body(time: Tensor, finished: Tensor, x: Any, tas: Any, state: Any, loop_state: Any) -> Any:
            output, new = cell(x, state)
            nest.assert_same_structure(state, new)
            nest.assert_same_structure(cell.output_size, output)
            done, next_input, next_state, emit, next_loop_state = loop_fn(time + 1, output, new, loop_state)
            nest.assert_same_structure(state, next_state)
            nest.assert_same_structure(x, next_input)
            nest.assert_same_structure(tas, emit)

            def chosen(old: Any, new: Any) -> Any:
                if isinstance(old, TensorArray) or old.shape.ndims == 0:
                    return new
                return array_ops.where(finished, old, new)

            tas = nest.map_structure(lambda ta, e: ta.write(time, e), tas, nest.map_structure(chosen, zero, emit))
            return (time + 1, math_ops.logical_or(finished, done), _as_tensors(next_input), tas,
                    nest.map_structure(chosen, state, _as_tensors(next_state)), loop_state if next_loop_state is None else next_loop_state)

        found = control_flow_ops.while_loop(
            lambda time, finished, *_: math_ops.logical_not(math_ops.reduce_all(finished)), body,
            [time, convert_to_tensor(finished), first_input, nest.pack_sequence_as(structure, tas), state, loop_state],
            parallel_iterations=parallel_iterations or 32, swap_memory=swap_memory)
        return found[3], found[4], None if given is None else found[5]


def _common_batch(flat: Sequence[Tensor]) -> Any:
    """The size of the first axis of all inputs: an int if known, else a scalar tensor.  Raises ValueError when they differ."""
    known = {x.shape[0].value for x in flat if x.shape.ndims} - {None}
    if len(known) > 1:
        raise ValueError(f"The inputs of a step must have one batch size, got {sorted(known)}")
    return known.pop() if known else array_ops.shape(flat[0])[0]


# ---------------------------------------------------------------- unrolled


def _sequence(inputs: Any) -> None:
    if not nest.is_sequence(inputs):
        raise TypeError("inputs must be a sequence")
    if not inputs:
        raise ValueError("inputs must not be empty")


def static_rnn(cell: Any, inputs: Sequence[Any], initial_state: Any = None, dtype: Any = None, sequence_length: Any = None,
               scope: Any = None) -> tuple[list[Any], Any]:
    """Calls `cell` on one input after the other, each in ops of its own.

    Args:
        cell: an RNNCell.
        inputs: a list with the input of each step, [batch, depth] or a nesting of such tensors.
        initial_state: of the structure of `cell.state_size`; zeros by default, of the type `dtype`.
        dtype: of the initial state; needed without `initial_state`.
        sequence_length: int vector [batch]; past the end of a sequence outputs are zero and its state is the last one.
        scope: of the variables, "rnn" by default.

    Returns:
        The list of outputs, and the final state.

    Raises:
        TypeError: `cell` is no RNNCell, or `inputs` no list.
        ValueError: no inputs, of different batch or unknown depth; neither `initial_state` nor `dtype`; `sequence_length` no vector.
    """
    assert_like_rnncell("cell", cell)
    _sequence(inputs)
    with variable_scope(scope or "rnn") as vs:
        steps = [_as_tensors(x) for x in inputs]
        batch = _static_batch(nest.flatten(steps))
        state = _first_state(cell, initial_state, batch, dtype)
        lengths, zero_output = None, None
        if sequence_length is not None:
            lengths = _lengths(sequence_length)
            kind = _state_dtype(dtype, state)
            zero_output = nest.map_structure(lambda size: zeros(batch, size, kind), cell.output_size)
        outputs = []
        for time, x in enumerate(steps):
            if time:
                vs.reuse_variables()
            output, state = _step(time, lengths, zero_output, state, lambda x=x, state=state: cell(x, state))
            outputs.append(output)
        return outputs, state


def _static_batch(flat: Sequence[Tensor]) -> Any:
    """The size of the batch of all steps: an int if known, else a scalar tensor."""
    if flat[0].shape.ndims != 1:
        for x in flat:
            for i, size in enumerate(x.shape.with_rank_at_least(2).as_list()[1:]):
                if size is None:
                    raise ValueError(f"Input size (dimension {i} of inputs) must be accessible via shape inference, but saw value None.")
    return _common_batch(flat)


def static_state_saving_rnn(cell: Any, inputs: Sequence[Any], state_saver: Any, state_name: Any, sequence_length: Any = None,
                            scope: Any = None) -> tuple[list[Any], Any]:
    """`static_rnn` from a saved state, which saves the new one.

    Args:
        state_saver: has `state(name)`, the saved state, and `save_state(name, value)`, an op that saves.
        state_name: a name, or a tuple of names when the state is a tuple.

    Raises:
        ValueError: names that do not fit the structure of `cell.state_size`.
    """
    several = nest.is_sequence(cell.state_size)
    if several != nest.is_sequence(state_name):
        raise ValueError(f"state_name should be the same type as cell.state_size.  state_name: {state_name}, "
                         f"cell.state_size: {cell.state_size}")
    names = nest.flatten(state_name)
    if len(names) != len(nest.flatten(cell.state_size)):
        raise ValueError(f"#elems(state_name) != #elems(state_size): {len(names)} vs. {len(nest.flatten(cell.state_size))}")
    first = nest.pack_sequence_as(cell.state_size, [state_saver.state(n) for n in names])
    outputs, state = static_rnn(cell, inputs, initial_state=first, sequence_length=sequence_length, scope=scope)
    saved = [state_saver.save_state(n, s) for n, s in zip(names, nest.flatten(state))]
    with graph.get_default_graph().control_dependencies(saved):
        outputs[-1] = nest.map_structure(array_ops.identity, outputs[-1])
        return outputs, nest.map_structure(array_ops.identity, state)


def static_bidirectional_rnn(cell_fw: Any, cell_bw: Any, inputs: Sequence[Any], initial_state_fw: Any = None, initial_state_bw: Any = None,
                             dtype: Any = None, sequence_length: Any = None, scope: Any = None) -> tuple[list[Any], Any, Any]:
    """`static_rnn` of one cell forward and of another backward in time.

    Args: as of `static_rnn`.  Variables go below "bidirectional_rnn/fw" and "bidirectional_rnn/bw".

    Returns:
        The list of outputs, forward and backward joined along axis 1; the final states forward and backward.
    """
    assert_like_rnncell("cell_fw", cell_fw)
    assert_like_rnncell("cell_bw", cell_bw)
    _sequence(inputs)
    with variable_scope(scope or "bidirectional_rnn"):
        with variable_scope("fw") as fw:
            out_fw, state_fw = static_rnn(cell_fw, inputs, initial_state_fw, dtype, sequence_length, scope=fw)
        with variable_scope("bw") as bw:
            found, state_bw = static_rnn(cell_bw, _reversed(inputs, sequence_length), initial_state_bw, dtype, sequence_length, scope=bw)
        out_bw = _reversed(found, sequence_length)
        outputs = [nest.map_structure(lambda a, b: array_ops.concat([a, b], 1), a, b) for a, b in zip(out_fw, out_bw)]
        return outputs, state_fw, state_bw


def _reversed(steps: Sequence[Any], lengths: Any) -> list[Any]:
    """The steps in the opposite order, of each sequence only those before its end."""
    if lengths is None:
        return list(reversed(steps))
    columns = zip(*map(nest.flatten, steps))
    turned = [array_ops.unstack(array_ops.reverse_sequence(array_ops.stack(c), lengths, seq_axis=0, batch_axis=1)) for c in columns]
    return [nest.pack_sequence_as(x, list(flat)) for x, flat in zip(steps, zip(*turned))]
