"""Recurrent networks: cells against NumPy formulas, loops against loops written out, names of variables against TF1's, errors."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags

cells, contrib = tf.nn.rnn_cell, tf.contrib.rnn
LSTMStateTuple = cells.LSTMStateTuple
BATCH, STEPS, DEPTH, UNITS = 3, 5, 4, 6


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=1), tf.Graph().as_default():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def started(rng, scale=0.5):
    """A session whose variables have random values."""
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    for v in tf.global_variables():
        v.load(rng.normal(size=v.shape.as_list()) * scale, sess)
    return sess


def values(sess):
    """Values of variables by the last parts of their names, from the cell's scope on."""
    return {v.op.name: sess.run(v) for v in tf.global_variables()}


def names():
    return [v.op.name for v in tf.global_variables()]


def below(found, scope):
    return {name[len(scope) + 1:]: value for name, value in found.items() if name.startswith(scope + "/")}


# ---------------------------------------------------------------- formulas

# Each takes the cell's variables by name, x and the state, and gives output and new state.


def np_rnn(w, x, h):
    h = np.tanh(np.concatenate([x, h], 1) @ w["kernel"] + w["bias"])
    return h, h


def np_gru(w, x, h, names=("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")):
    gk, gb, ck, cb = (w[n] for n in names)
    r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ gk + gb), 2, 1)
    c = np.tanh(np.concatenate([x, r * h], 1) @ ck + cb)
    h = u * h + (1 - u) * c
    return h, h


def np_lstm(w, x, state, forget_bias=1.0, clip=None, proj_clip=None):
    c, h = state
    i, j, f, o = np.split(np.concatenate([x, h], 1) @ w["kernel"] + w["bias"], 4, 1)
    diagonal = {gate: w.get(f"w_{gate}_diag", 0) for gate in "ifo"}
    c = sigmoid(f + forget_bias + diagonal["f"] * c) * c + sigmoid(i + diagonal["i"] * c) * np.tanh(j)
    if clip:
        c = np.clip(c, -clip, clip)
    h = sigmoid(o + diagonal["o"] * c) * np.tanh(c)
    if "projection/kernel" in w:
        h = h @ w["projection/kernel"]
        if proj_clip:
            h = np.clip(h, -proj_clip, proj_clip)
    return h, LSTMStateTuple(c, h)


def np_joined_lstm(w, x, state):
    h, new = np_lstm(w, x, np.split(state, 2, 1))
    return h, np.concatenate(new, 1)


def np_norm(w, x, scope, on=True):
    if not on:
        return x
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True)) * w[f"{scope}/gamma"] + w[f"{scope}/beta"]


def np_layer_norm_lstm(w, x, state, on=True):
    c, h = state
    gates = np.concatenate([x, h], 1) @ w["kernel"] + (0 if on else w["bias"])
    i, j, f, o = (np_norm(w, g, n, on) for g, n in zip(np.split(gates, 4, 1), ("input", "transform", "forget", "output")))
    c = np_norm(w, c * sigmoid(f + 1) + sigmoid(i) * np.tanh(j), "state", on)
    h = np.tanh(c) * sigmoid(o)
    return h, LSTMStateTuple(c, h)


def np_coupled(w, x, state):
    c, h = state
    j, f, o = np.split(np.concatenate([x, h], 1) @ np.concatenate([w["W_0"], w["W_1"]], 0) + w["B"], 3, 1)
    keep = sigmoid(f + 1 + w["W_F_diag"] * c)
    c = keep * c + (1 - keep) * np.tanh(j)
    h = (sigmoid(o + w["W_O_diag"] * c) * np.tanh(c)) @ w["W_P_0"]
    h = np.clip(h, -0.3, 0.3)
    return h, LSTMStateTuple(c, h)


def np_nas(w, x, state):
    c, h = state
    relu = lambda a: np.maximum(a, 0)
    p = list(zip(np.split(x @ w["kernel"], 8, 1), np.split(h @ w["recurrent_kernel"] + w["bias"], 8, 1)))
    a0, a1, a2, a3 = sigmoid(sum(p[0])), relu(sum(p[1])), sigmoid(sum(p[2])), relu(p[3][0] * p[3][1])
    a4, a5, a6, a7 = np.tanh(sum(p[4])), sigmoid(sum(p[5])), np.tanh(sum(p[6])), sigmoid(sum(p[7]))
    c = np.tanh(np.tanh(a0 * a1) + c) * np.tanh(a2 + a3)
    h = np.tanh(c * np.tanh(np.tanh(a4 * a5) + sigmoid(a6 + a7))) @ w["projection_weights"]
    return h, LSTMStateTuple(c, h)


def np_ugrnn(w, x, h):
    g, c = np.split(np.concatenate([x, h], 1) @ w["kernel"] + w["bias"], 2, 1)
    g = sigmoid(g + 1)
    h = g * h + (1 - g) * np.tanh(c)
    return h, h


def np_intersection(w, x, h):
    x = x @ w["in_projection/kernel"] + w["in_projection/bias"]
    gh, hh, gy, y = np.split(np.concatenate([x, h], 1) @ w["kernel"] + w["bias"], 4, 1)
    gh, gy = sigmoid(gh + 1), sigmoid(gy + 1)
    return gy * x + (1 - gy) * np.maximum(y, 0), gh * h + (1 - gh) * np.tanh(hh)


def np_ind(w, x, h):
    h = np.tanh(x @ w["kernel_w"] + h * w["kernel_u"] + w["bias"])
    return h, h


def np_input_projection(w, x, h):
    return np_rnn(below(w, "basic_rnn_cell"), x @ w["kernel"] + w["bias"], h)


def np_output_projection(w, x, h):
    out, h = np_rnn(below(w, "basic_rnn_cell"), x, h)
    return np.maximum(out @ w["kernel"] + w["bias"], 0), h


def np_attention(w, x, state, length=3, size=UNITS):
    state, attention, past = state
    past = past.reshape(-1, length, size)
    out, state = np_lstm(below(w, "lstm_cell"), np.concatenate([x, attention], 1) @ w["kernel"] + w["bias"], state)
    query = np.concatenate(state, 1) @ w["attention/kernel"] + w["attention/bias"]
    score = (w["attention/attn_v"] * np.tanh(past @ w["attention/attn_w"][0, 0] + query[:, None])).sum(2)
    weight = np.exp(score) / np.exp(score).sum(1, keepdims=True)
    attention = (weight[:, :, None] * past).sum(1)
    out = np.concatenate([out, attention], 1) @ w["attn_output_projection/kernel"] + w["attn_output_projection/bias"]
    past = np.concatenate([past[:, 1:], out[:, None]], 1).reshape(-1, length * size)
    return out, (state, attention, past)


def np_multi(w, x, state):
    x, first = np_lstm(below(w, "cell_0/basic_lstm_cell"), x, state[0])
    x, second = np_gru(below(w, "cell_1/gru_cell"), x, state[1])
    return x, (first, second)


BLOCK_GRU = ("w_ru", "b_ru", "w_c", "b_c")
# name of the cell's scope: how to make it, its formula, its variables with the shapes that TF1 gives them (in TF1's order)
D, U = DEPTH + UNITS, UNITS
TABLE = {
    "basic_rnn_cell": (lambda: cells.BasicRNNCell(U), np_rnn, {"kernel": [D, U], "bias": [U]}),
    "gru_cell": (lambda: cells.GRUCell(U), np_gru,
                 {"gates/kernel": [D, 2 * U], "gates/bias": [2 * U], "candidate/kernel": [D, U], "candidate/bias": [U]}),
    "basic_lstm_cell": (lambda: cells.BasicLSTMCell(U), np_lstm, {"kernel": [D, 4 * U], "bias": [4 * U]}),
    "basic_lstm_cell joined": (lambda: cells.BasicLSTMCell(U, state_is_tuple=False), np_joined_lstm,
                               {"kernel": [D, 4 * U], "bias": [4 * U]}),
    "lstm_cell": (lambda: cells.LSTMCell(U), np_lstm, {"kernel": [D, 4 * U], "bias": [4 * U]}),
    "lstm_cell all": (lambda: cells.LSTMCell(U, use_peepholes=True, cell_clip=0.4, num_proj=3, proj_clip=0.3, forget_bias=0.5,
                                             num_unit_shards=2, num_proj_shards=3),
                      lambda w, x, s: np_lstm(w, x, s, 0.5, 0.4, 0.3),
                      {"kernel": [DEPTH + 3, 4 * U], "bias": [4 * U], "w_f_diag": [U], "w_i_diag": [U], "w_o_diag": [U],
                       "projection/kernel": [U, 3]}),
    "multi_rnn_cell": (lambda: cells.MultiRNNCell([cells.BasicLSTMCell(U), cells.GRUCell(U)]), np_multi,
                       {"cell_0/basic_lstm_cell/kernel": [D, 4 * U], "cell_0/basic_lstm_cell/bias": [4 * U],
                        "cell_1/gru_cell/gates/kernel": [2 * U, 2 * U], "cell_1/gru_cell/gates/bias": [2 * U],
                        "cell_1/gru_cell/candidate/kernel": [2 * U, U], "cell_1/gru_cell/candidate/bias": [U]}),
    "lstm_cell block": (lambda: contrib.LSTMBlockCell(U, cell_clip=0.4, use_peephole=True), lambda w, x, s: np_lstm(w, x, s, 1.0, 0.4),
                        {"kernel": [D, 4 * U], "bias": [4 * U], "w_i_diag": [U], "w_f_diag": [U], "w_o_diag": [U]}),
    "gru_cell block": (lambda: contrib.GRUBlockCell(U), lambda w, x, h: np_gru(w, x, h, BLOCK_GRU),
                       {"w_ru": [D, 2 * U], "b_ru": [2 * U], "w_c": [D, U], "b_c": [U]}),
    "gru_cell block 2": (lambda: contrib.GRUBlockCellV2(U), np_gru,
                         {"gates/kernel": [D, 2 * U], "gates/bias": [2 * U], "candidate/kernel": [D, U], "candidate/bias": [U]}),
    "layer_norm_basic_lstm_cell": (lambda: contrib.LayerNormBasicLSTMCell(U), np_layer_norm_lstm,
                                   {"kernel": [D, 4 * U], **{f"{g}/{v}": [U] for g in ("input", "transform", "forget", "output", "state")
                                                             for v in ("gamma", "beta")}}),
    "layer_norm_basic_lstm_cell without": (lambda: contrib.LayerNormBasicLSTMCell(U, layer_norm=False),
                                           lambda w, x, s: np_layer_norm_lstm(w, x, s, False), {"kernel": [D, 4 * U], "bias": [4 * U]}),
    "coupled_input_forget_gate_lstm_cell": (
        lambda: contrib.CoupledInputForgetGateLSTMCell(U, use_peepholes=True, num_proj=3, proj_clip=0.3, num_unit_shards=2), np_coupled,
        {"W_0": [4, 3 * U], "W_1": [3, 3 * U], "B": [3 * U], "W_F_diag": [U], "W_O_diag": [U], "W_P_0": [U, 3]}),
    "nas_cell": (lambda: contrib.NASCell(U, num_proj=3, use_biases=True), np_nas,
                 {"recurrent_kernel": [3, 8 * U], "kernel": [DEPTH, 8 * U], "bias": [8 * U], "projection_weights": [U, 3]}),
    "ugrnn_cell": (lambda: contrib.UGRNNCell(U), np_ugrnn, {"kernel": [D, 2 * U], "bias": [2 * U]}),
    "intersection_rnn_cell": (lambda: contrib.IntersectionRNNCell(U, num_in_proj=U), np_intersection,
                              {"in_projection/kernel": [DEPTH, U], "in_projection/bias": [U], "kernel": [2 * U, 4 * U], "bias": [4 * U]}),
    "ind_rnn_cell": (lambda: contrib.IndRNNCell(U), np_ind, {"kernel_w": [DEPTH, U], "kernel_u": [1, U], "bias": [U]}),
    "input_projection_wrapper": (lambda: contrib.InputProjectionWrapper(cells.BasicRNNCell(U), 7), np_input_projection,
                                 {"kernel": [DEPTH, 7], "bias": [7], "basic_rnn_cell/kernel": [7 + U, U], "basic_rnn_cell/bias": [U]}),
    "output_projection_wrapper": (lambda: contrib.OutputProjectionWrapper(cells.BasicRNNCell(U), 2, tf.nn.relu), np_output_projection,
                                  {"basic_rnn_cell/kernel": [D, U], "basic_rnn_cell/bias": [U], "kernel": [U, 2], "bias": [2]}),
    "attention_cell_wrapper": (
        lambda: contrib.AttentionCellWrapper(cells.LSTMCell(U), 3, attn_vec_size=5, input_size=2), np_attention,
        {"kernel": [D, 2], "bias": [2], "lstm_cell/kernel": [2 + U, 4 * U], "lstm_cell/bias": [4 * U],
         "attention/attn_w": [1, 1, U, 5], "attention/attn_v": [5], "attention/kernel": [2 * U, 5], "attention/bias": [5],
         "attn_output_projection/kernel": [2 * U, U], "attn_output_projection/bias": [U]}),
}



def flat(structure):
    if isinstance(structure, tuple | list):
        return [leaf for part in structure for leaf in flat(part)]
    return [structure]


def mapped(f, structure):
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*[mapped(f, x) for x in structure])
    return tuple(mapped(f, x) for x in structure) if isinstance(structure, tuple) else f(structure)


def unrolled(formula, w, xs, state, lengths=None):
    """The formula over time steps [time, batch, depth], sequences ending at their lengths."""
    outs = []
    for t, x in enumerate(xs):
        out, new = formula(w, x, state)
        if lengths is not None:
            on = (t < np.asarray(lengths))[:, None]
            out = np.where(on, out, 0)
            olds = iter(flat(state))
            new = mapped(lambda a: np.where(on, a, next(olds)), new)
        outs.append(out)
        state = new
    return np.stack(outs), state


def close(found, wanted, tolerance=1e-11):
    found, wanted = flat(found), flat(wanted)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", TABLE)
def test_cell_names_shapes_and_formula(name, rng):
    """One step by hand; dynamic_rnn with lengths; the same variables in both, named as in TF1."""
    make, formula, wanted = TABLE[name]
    scope = name.split()[0]
    cell = make()
    xs, lengths = rng.normal(size=(STEPS, BATCH, DEPTH)), [5, 2, 0]
    first = mapped(lambda n: rng.normal(size=(BATCH, n)), cell.state_size)
    x, state = tf.constant(xs), mapped(tf.constant, first)
    outs, final = tf.nn.dynamic_rnn(cell, x, lengths, initial_state=state, time_major=True)
    assert {n: v.shape.as_list() for n, v in zip(names(), tf.global_variables())} == {f"rnn/{scope}/{n}": s for n, s in wanted.items()}
    assert names() == [f"rnn/{scope}/{n}" for n in wanted]
    one, new = cell(x[0], state)
    assert len(names()) == len(wanted)
    assert set(cell.trainable_weights) == set(tf.global_variables()) == set(cell.variables)
    assert outs.shape.as_list() == [STEPS, BATCH, cell.output_size]
    assert mapped(lambda t: t.shape.as_list(), final) == mapped(lambda n: [BATCH, n], cell.state_size)
    with started(rng) as sess:
        w = below(values(sess), f"rnn/{scope}")
        close(sess.run([one, new]), formula(w, xs[0], first))
        close(sess.run([outs, final]), unrolled(formula, w, xs, first, lengths))


@pytest.mark.parametrize("name", TABLE)
def test_dynamic_is_static_with_gradients(name, rng):
    """Values, and gradients of inputs, states and variables, of the loop against the graph written out."""
    make, _, _ = TABLE[name]
    lengths = [4, 0, 2]
    x = tf.constant(rng.normal(size=(4, BATCH, DEPTH)))
    cell = make()
    state = mapped(lambda n: tf.constant(rng.normal(size=(BATCH, n))), cell.state_size)
    weight = tf.constant(rng.normal(size=(4, BATCH, cell.output_size)))

    def loss_and_gradients(outs, final):
        loss = tf.reduce_sum(outs * weight) + tf.add_n([tf.reduce_sum(tf.square(s)) for s in flat(final)])
        return loss, tf.gradients(loss, [x, *flat(state), *tf.trainable_variables()])

    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
        dynamic = loss_and_gradients(*tf.nn.dynamic_rnn(cell, x, lengths, initial_state=state, time_major=True))
        outs, final = tf.nn.static_rnn(make(), tf.unstack(x), initial_state=state, sequence_length=lengths)
        static = loss_and_gradients(tf.stack(outs), final)
    with started(rng) as sess:
        a, b = sess.run([dynamic, static])
    assert all(g is not None for g in a[1])
    close([a[0], *a[1]], [b[0], *b[1]], 1e-9)
