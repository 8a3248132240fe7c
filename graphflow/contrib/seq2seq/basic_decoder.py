"""`BasicDecoder`: a cell, a layer for its outputs, and a helper that chooses the next inputs."""
from __future__ import annotations

import collections
from typing import Any

import graphflow as tf

from ... import nest
from ...layers.base import Layer
from ...rnn_cell import assert_like_rnncell
from .decoder import Decoder
from .helper import Helper

__all__ = ["BasicDecoder", "BasicDecoderOutput"]


class BasicDecoderOutput(collections.namedtuple("BasicDecoderOutput", ("rnn_output", "sample_id"))):
    """The outputs of the cell (after the output layer) and what the helper sampled from them."""

    __slots__ = ()


def needs_layer(what: str, layer: Any) -> None:
    """Raises TypeError when `layer` is neither None nor a Layer."""
    if layer is not None and not isinstance(layer, Layer):
        raise TypeError(f"{what} must be a Layer, received: {type(layer)}")


def output_shapes(cell: Any, layer: Any) -> Any:
    """The size of a cell's outputs after `layer`."""
    if layer is None:
        return cell.output_size
    shapes = nest.map_structure(lambda s: tf.TensorShape([None]).concatenate(s if isinstance(s, tf.TensorShape) else [s]), cell.output_size)
    return nest.map_structure(lambda s: s[1:], layer.compute_output_shape(shapes))


class BasicDecoder(Decoder):
    """Each step: cell, `output_layer`, a sample from its outputs, and the next inputs from that, as `helper` says.

    Args:
        cell: an RNNCell.
        helper: a Helper.
        initial_state: of the cell; its first tensor has the dtype of the outputs.
        output_layer: a tf.layers.Layer, as tf.layers.Dense(vocabulary), or None.

    Raises:
        TypeError: an argument of another kind.
    """

    def __init__(self, cell: Any, helper: Any, initial_state: Any, output_layer: Any = None):
        assert_like_rnncell("cell", cell)
        if not isinstance(helper, Helper):
            raise TypeError(f"helper must be a Helper, received: {type(helper)}")
        needs_layer("output_layer", output_layer)
        self._cell, self._helper, self._initial_state, self._output_layer = cell, helper, initial_state, output_layer

    @property
    def batch_size(self) -> Any:
        return self._helper.batch_size

    @property
    def output_size(self) -> BasicDecoderOutput:
        return BasicDecoderOutput(output_shapes(self._cell, self._output_layer), self._helper.sample_ids_shape)

    @property
    def output_dtype(self) -> BasicDecoderOutput:
        dtype = nest.flatten(self._initial_state)[0].dtype
        return BasicDecoderOutput(nest.map_structure(lambda _: dtype, output_shapes(self._cell, self._output_layer)),
                                  self._helper.sample_ids_dtype)

    def initialize(self, name: str | None = None) -> Any:
        return (*self._helper.initialize(), self._initial_state)

    def step(self, time: Any, inputs: Any, state: Any, name: str | None = None) -> Any:
        with tf.name_scope(name, "BasicDecoderStep", (time, inputs, state)):
            outputs, state = self._cell(inputs, state)
            if self._output_layer is not None:
                outputs = self._output_layer(outputs)
            ids = self._helper.sample(time=time, outputs=outputs, state=state)
            finished, inputs, state = self._helper.next_inputs(time=time, outputs=outputs, state=state, sample_ids=ids)
        return BasicDecoderOutput(outputs, ids), state, inputs, finished
