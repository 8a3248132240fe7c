"""`tf.contrib.rnn`: the cells of `tf.nn.rnn_cell` and more of them, the static networks, stacks of bidirectional ones."""
from __future__ import annotations

from ..rnn import static_bidirectional_rnn, static_rnn, static_state_saving_rnn, transpose_batch_time
from ..rnn_cell import (BasicLSTMCell, BasicRNNCell, DeviceWrapper, DropoutWrapper, GRUCell, LSTMCell, LSTMStateTuple, MultiRNNCell,
                        ResidualWrapper, RNNCell)

__all__ = ["BasicLSTMCell", "BasicRNNCell", "DeviceWrapper", "DropoutWrapper", "GRUCell", "LSTMCell", "LSTMStateTuple", "MultiRNNCell",
           "RNNCell", "ResidualWrapper", "static_bidirectional_rnn", "static_rnn", "static_state_saving_rnn", "transpose_batch_time"]
