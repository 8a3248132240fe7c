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
    with flags.override(interpret=0), tf.Graph().as_default():
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


def relu(x):
    return np.maximum(x, 0)


def np_nas(w, x, state):
    c, h = state
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


# Figures of TensorFlow 2.21 (tf.compat.v1, cells of tf_keras' legacy_cells): inputs sin(0), sin(1), ... of shape [2, 4, 3], lengths 4
# and 2, each variable cos(1), cos(2), ...; outputs of the first sequence, the final h, and sum and sum of squares of the gradient of
# the sum of squared outputs by the first variable.
FIGURES = {
    "rnn": (lambda: cells.BasicRNNCell(2),
            [-0.03480030122346649, -0.09282064960535376, 0.8184497853049981, -0.6739680245510893, 0.8484711277571151, 0.5830500484337049,
             0.8097553499150106, -0.9473097542155916],
            [0.8097553499150106, -0.9473097542155916, 0.5236450793897842, -0.9483663346567722], [5.417467857611445, 12.62834167549568]),
    "gru": (lambda: cells.GRUCell(2),
            [-0.020427811590156584, -0.046613680649644586, 0.6769436509937502, -0.5817796356309155, 0.5057952317746107,
             -0.006987592695323508, 0.8386748526677726, -0.7635191987700652],
            [0.8386748526677726, -0.7635191987700652, 0.6032781701890951, -0.7570578647322047], [1.301697060768491, 0.6870714083195107]),
    "basic_lstm": (lambda: cells.BasicLSTMCell(2),
                   [-0.013614446978275973, 0.05399596656249643, -0.5947613975062712, -0.10740851873512791, -0.13225477069206626,
                    0.05333783338032543, -0.7406604755088145, -0.045397437336323426],
                   [-0.7406604755088145, -0.045397437336323426, -0.504427201681728, -0.0052033861647621926],
                   [-1.0720383496120607, 0.4253888843289062]),
    "lstm": (lambda: cells.LSTMCell(2, use_peepholes=True, num_proj=1),
             [-0.028860269545814082, -0.2514448395079386, -0.08903618253732924, -0.3196852378275751],
             [-0.3196852378275751, -0.25620454176376306], [0.11818390876671332, 0.08078591405263016]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_tensorflow(name):
    make, first, last, slope = FIGURES[name]
    outs, final = tf.nn.dynamic_rnn(make(), tf.constant(np.sin(np.arange(24.0)).reshape(2, 4, 3)), [4, 2], dtype=tf.float64)
    gradient = tf.gradients(tf.reduce_sum(tf.square(outs)), tf.trainable_variables()[0])[0]
    with tf.Session() as sess:
        for v in tf.global_variables():
            sizes = v.shape.as_list()
            v.load(np.cos(np.arange(np.prod(sizes)) + 1).reshape(sizes), sess)
        outs, h, g = sess.run([outs, getattr(final, "h", final), gradient])
    close([outs[0].ravel(), h.ravel(), np.array([g.sum(), (g * g).sum()])], [np.array(x) for x in (first, last, slope)], 1e-12)


# ---------------------------------------------------------------- names of variables

# What TF 1.15 calls the variables of networks.
NETWORKS = {
    "dynamic": (lambda c, x: tf.nn.dynamic_rnn(c(), x, dtype=tf.float64), ["rnn/"]),
    "static": (lambda c, x: tf.nn.static_rnn(c(), tf.unstack(x, axis=1), dtype=tf.float64), ["rnn/"]),
    "scope": (lambda c, x: tf.nn.dynamic_rnn(c(), x, dtype=tf.float64, scope="encoder"), ["encoder/"]),
    "bidirectional": (lambda c, x: tf.nn.bidirectional_dynamic_rnn(c(), c(), x, dtype=tf.float64),
                      ["bidirectional_rnn/fw/", "bidirectional_rnn/bw/"]),
    "static bidirectional": (lambda c, x: tf.nn.static_bidirectional_rnn(c(), c(), tf.unstack(x, axis=1), dtype=tf.float64),
                             ["bidirectional_rnn/fw/", "bidirectional_rnn/bw/"]),
    "stack": (lambda c, x: contrib.stack_bidirectional_dynamic_rnn([c(), c()], [c(), c()], x, dtype=tf.float64),
              [f"stack_bidirectional_rnn/cell_{k}/bidirectional_rnn/{d}/" for k in (0, 1) for d in ("fw", "bw")]),
    "static stack": (lambda c, x: contrib.stack_bidirectional_rnn([c(), c()], [c(), c()], tf.unstack(x, axis=1), dtype=tf.float64),
                     [f"stack_bidirectional_rnn/cell_{k}/{d}/" for k in (0, 1) for d in ("fw", "bw")]),
}
WRAPPED = {
    "plain": (lambda: cells.BasicLSTMCell(U), ["basic_lstm_cell/"]),
    "dropout": (lambda: cells.DropoutWrapper(cells.BasicLSTMCell(U), 0.5), ["basic_lstm_cell/"]),
    "device, residual function": (lambda: cells.ResidualWrapper(cells.DeviceWrapper(cells.BasicLSTMCell(U), "/cpu:0"), lambda x, y: y),
                                  ["basic_lstm_cell/"]),
    "named": (lambda: cells.BasicLSTMCell(U, name="mine"), ["mine/"]),
    "multi": (lambda: cells.MultiRNNCell([cells.DropoutWrapper(cells.BasicLSTMCell(U)), cells.BasicLSTMCell(U)]),
              ["multi_rnn_cell/cell_0/basic_lstm_cell/", "multi_rnn_cell/cell_1/basic_lstm_cell/"]),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_variable_names_of_networks(network, wrapped):
    build, scopes = NETWORKS[network]
    make, inner = WRAPPED[wrapped]
    build(make, tf.placeholder(tf.float64, [2, 3, U]))
    assert names() == [f"{scope}{cell}{v}" for scope in scopes for cell in inner for v in ("kernel", "bias")]


def test_cells_called_by_hand_have_scopes_of_their_own():
    x, state = tf.zeros([2, 3]), tf.zeros([2, 4])
    for _ in range(2):
        cells.GRUCell(4)(x, state)
    cells.BasicRNNCell(4)(x, state, scope="given")
    contrib.UGRNNCell(4)(x, state, scope="other")
    assert {n.split("/")[0] for n in names()} == {"gru_cell", "gru_cell_1", "given", "other"}
    assert {n for n in names() if n.startswith("given")} == {"given/kernel", "given/bias"}


def test_a_cell_used_again_shares_its_variables(rng):
    cell = cells.MultiRNNCell([cells.BasicLSTMCell(U), cells.GRUCell(U)])
    x = tf.constant(rng.normal(size=(2, 3, DEPTH)))
    a, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float64)
    b, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float64)
    c, _ = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float64)
    assert len(names()) == 6
    with started(rng) as sess:
        a, b, c = sess.run([a, b, tf.stack(c, 1)])
    np.testing.assert_array_equal(a, b)
    close(a, c)


def test_reuse(rng):
    x = tf.constant(rng.normal(size=(2, 3, DEPTH)))
    outs = []
    for reuse in (None, True, tf.AUTO_REUSE):
        with tf.variable_scope("model", reuse=reuse):
            outs.append(tf.nn.dynamic_rnn(cells.MultiRNNCell([cells.BasicLSTMCell(U)]), x, dtype=tf.float64)[0])
    assert len(names()) == 2
    with started(rng) as sess:
        a, b, c = sess.run(outs)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)
    with pytest.raises(ValueError, match="/multi_rnn_cell/cell_0/basic_lstm_cell/kernel already exists"), tf.variable_scope("model"):
        tf.nn.dynamic_rnn(cells.MultiRNNCell([cells.BasicLSTMCell(U)]), x, dtype=tf.float64)
    with pytest.raises(ValueError, match="does not exist"), tf.variable_scope("another", reuse=True):
        tf.nn.dynamic_rnn(cells.GRUCell(U), x, dtype=tf.float64)


def test_one_cell_twice_in_a_stack_shares_weights():
    cell = cells.GRUCell(4)
    cells.MultiRNNCell([cell, cell])(tf.zeros([2, 4]), (tf.zeros([2, 4]), tf.zeros([2, 4])))
    assert {n.rsplit("/", 2)[0] for n in names()} == {"multi_rnn_cell/cell_0/gru_cell"}


def test_a_checkpoint_of_one_cell_is_read_by_the_other(rng, tmp_path):
    """LSTMCell and LSTMBlockCell have the same variables."""
    data = rng.normal(size=(2, 3, DEPTH))
    with tf.variable_scope("net"):
        a, _ = tf.nn.dynamic_rnn(cells.LSTMCell(U, use_peepholes=True), tf.constant(data), dtype=tf.float64)
    with started(rng) as sess:
        wanted = sess.run(a)
        path = tf.train.Saver().save(sess, str(tmp_path / "model"))
    with tf.Graph().as_default():
        with tf.variable_scope("net"):
            b, _ = tf.nn.dynamic_rnn(contrib.LSTMBlockCell(U, use_peephole=True), tf.constant(data), dtype=tf.float64)
        with tf.Session() as sess:
            tf.train.Saver().restore(sess, path)
            np.testing.assert_allclose(sess.run(b), wanted, rtol=1e-12)


# ---------------------------------------------------------------- lengths, shapes, states


@pytest.mark.parametrize("kind", [tf.int32, tf.int64])
def test_lengths(rng, kind):
    """Past their end outputs are zero and states stay; a length past the time axis is as long as that, one below zero is zero."""
    data = rng.normal(size=(5, 4, DEPTH))
    x, lengths = tf.placeholder(tf.float64, [None, None, DEPTH]), tf.placeholder(kind, [None])
    outs, final = tf.nn.dynamic_rnn(cells.GRUCell(U), x, lengths, dtype=tf.float64)
    assert outs.shape.as_list() == [None, None, U]
    with started(rng) as sess:
        w = below(values(sess), "rnn/gru_cell")
        given = [2, 9, 0, -1, 4]
        got = sess.run([outs, final], {x: data, lengths: given})
        out, state = unrolled(np_gru, w, data.transpose(1, 0, 2), np.zeros((5, U)), given)
        close(got, [out.transpose(1, 0, 2), state])
        assert np.abs(got[0][1]).min() > 0 and not got[0][2:4].any()
        # All sequences end before the last step: what is left of the outputs is zero.
        got = sess.run(outs, {x: data, lengths: [1, 2, 0, 2, 1]})
        assert got.shape == (5, 4, U) and not got[:, 2:].any() and got[1, 1].all()


def test_no_steps_and_no_sequences(rng):
    """Compiled: the interpreter does not know the batch of what no step has written."""
    x, lengths = tf.placeholder(tf.float64, [None, None, DEPTH]), tf.placeholder(tf.int32, [None])
    cell = cells.BasicLSTMCell(U)
    plain, of_lengths = tf.nn.dynamic_rnn(cell, x, dtype=tf.float64), tf.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float64)
    slope = tf.gradients(tf.reduce_sum(of_lengths[0]) + tf.reduce_sum(of_lengths[1].c), cell.weights)
    with flags.override(interpret=0), started(rng) as sess:
        for batch, steps in ((2, 0), (0, 3), (2, 3)):
            a, b, g = sess.run([plain, of_lengths, slope], {x: np.ones((batch, steps, DEPTH)), lengths: [0] * batch})
            assert a[0].shape == b[0].shape == (batch, steps, U)
            assert a[1].c.shape == b[1].h.shape == (batch, U)
            assert not b[0].any() and not flat(b[1])[0].any()
            assert not g[0].any() and g[0].shape == (DEPTH + U, 4 * U)


def test_lengths_of_another_number(rng):
    x, lengths = tf.placeholder(tf.float64, [None, 3, DEPTH]), tf.placeholder(tf.int32, [None])
    outs, _ = tf.nn.dynamic_rnn(cells.GRUCell(U), x, lengths, dtype=tf.float64)
    with started(rng) as sess:
        for wrong in ([1], [1, 2, 3]):
            with pytest.raises(tf.errors.InvalidArgumentError):
                sess.run(outs, {x: np.ones((2, 3, DEPTH)), lengths: wrong})
        assert sess.run(outs, {x: np.ones((2, 3, DEPTH)), lengths: [1, 2]}).shape == (2, 3, U)


def test_time_major_is_batch_major(rng):
    x = tf.constant(rng.normal(size=(5, 2, DEPTH)))
    cell = cells.GRUCell(U)
    a, state_a = tf.nn.dynamic_rnn(cell, x, [5, 3], dtype=tf.float64, time_major=True)
    b, state_b = tf.nn.dynamic_rnn(cell, tf.transpose(x, [1, 0, 2]), [5, 3], dtype=tf.float64, swap_memory=True, parallel_iterations=4)
    assert (a.shape.as_list(), b.shape.as_list()) == ([5, 2, U], [2, 5, U])
    with started(rng) as sess:
        a, b, state_a, state_b = sess.run([a, b, state_a, state_b])
    np.testing.assert_array_equal(a, b.transpose(1, 0, 2))
    np.testing.assert_array_equal(state_a, state_b)


def test_keeping_less_of_the_forward_pass(rng):
    """`swap_memory` changes no gradient."""
    x = tf.constant(rng.normal(size=(9, 2, DEPTH)))
    cell = cells.LSTMCell(U)
    outs = [tf.nn.dynamic_rnn(cell, x, dtype=tf.float64, time_major=True, swap_memory=swap)[0] for swap in (False, True)]
    slopes = [tf.gradients(tf.reduce_sum(tf.square(out)), [x, *cell.weights]) for out in outs]
    with started(rng) as sess:
        a, b = sess.run(slopes)
    close(a, b)


def test_the_graph_of_a_loop_does_not_grow_with_time():
    def size(build):
        with tf.Graph().as_default() as g:
            build()
            return [op.type for op in g.get_operations()]

    cell = cells.BasicLSTMCell
    short, long = (size(lambda t=t: tf.nn.dynamic_rnn(cell(4), tf.zeros([2, t, 3]), [1, 2], dtype=tf.float32)) for t in (3, 300))
    assert short == long and short.count("While") == 1
    assert len(size(lambda: tf.nn.static_rnn(cell(4), [tf.zeros([2, 3])] * 9, dtype=tf.float32))) > len(
        size(lambda: tf.nn.static_rnn(cell(4), [tf.zeros([2, 3])] * 3, dtype=tf.float32)))


def test_zero_state():
    n = tf.placeholder(tf.int32, [])
    cell = cells.MultiRNNCell([cells.LSTMCell(4, num_proj=2), cells.GRUCell(3)])
    state = cell.zero_state(n, tf.float16)
    assert isinstance(state[0], LSTMStateTuple) and state[0].dtype is tf.float16
    assert [s.shape.as_list() for s in flat(state)] == [[None, 4], [None, 2], [None, 3]]
    assert state[1].op.name.startswith("MultiRNNCellZeroState/GRUCellZeroState/zeros")
    fixed = cell.zero_state(5, tf.float32)
    assert [s.shape.as_list() for s in flat(fixed)] == [[5, 4], [5, 2], [5, 3]]
    with tf.Session() as sess:
        got = sess.run(state, {n: 3})
    assert got[0].h.shape == (3, 2) and got[0].h.dtype == np.float16 and not got[1].any()


def test_get_initial_state():
    cell, x = cells.GRUCell(4), tf.placeholder(tf.float64, [7, 2])
    state = cell.get_initial_state(inputs=x)
    assert (state.shape.as_list(), state.dtype) == ([7, 4], tf.float64)
    assert cell.get_initial_state(batch_size=3, dtype=tf.float32).shape.as_list() == [3, 4]
    for wrong in ({"inputs": x, "batch_size": 6}, {"inputs": x, "dtype": tf.float32}, {"batch_size": 3}, {"dtype": tf.float32}):
        with pytest.raises(ValueError, match="batch|dtype"):
            cell.get_initial_state(**wrong)


class Pair(cells.RNNCell):
    """Inputs, states and outputs that are nestings, and sizes of several axes."""

    state_size = (tf.TensorShape([2, 3]), 4)
    output_size = {"sum": tf.TensorShape([2, 3]), "last": 4}

    def call(self, inputs, state):
        a, b = inputs
        w = tf.get_variable("w", [4], dtype=b.dtype)
        new = state[0] + a, state[1] * 0.5 + b * w
        return {"sum": new[0] * 2, "last": new[1]}, new


def test_nested_inputs_states_and_outputs(rng):
    a, b = rng.normal(size=(3, 5, 2, 3)), rng.normal(size=(3, 5, 4))
    outs, final = tf.nn.dynamic_rnn(Pair(), (tf.constant(a), tf.constant(b)), [5, 3, 1], dtype=tf.float64)
    assert {k: v.shape.as_list() for k, v in outs.items()} == {"sum": [3, 5, 2, 3], "last": [3, 5, 4]}
    assert names() == ["rnn/pair/w"]
    steps = list(zip(tf.unstack(tf.constant(a), axis=1), tf.unstack(tf.constant(b), axis=1)))
    with tf.variable_scope("", reuse=True):
        static, last = tf.nn.static_rnn(Pair(), steps, dtype=tf.float64, sequence_length=[5, 3, 1])
    with started(rng) as sess:
        outs, final, static, last = sess.run([outs, final, static, last])
    on = (np.arange(5) < np.array([[5], [3], [1]]))[:, :, None, None]
    np.testing.assert_allclose(outs["sum"], np.where(on, 2 * np.cumsum(a, 1), 0), rtol=1e-12)
    np.testing.assert_allclose(final[0], (a * on).sum(1), rtol=1e-12)
    for key in outs:
        np.testing.assert_allclose(np.stack([s[key] for s in static], 1), outs[key], rtol=1e-12)
    close(final, last)


class Bare:
    """Like an RNNCell without being one."""

    state_size = output_size = 3

    def zero_state(self, batch_size, dtype):
        return tf.ones([batch_size, 3], dtype)

    def __call__(self, inputs, state, scope=None):
        with tf.variable_scope(scope or "bare"):
            new = state + inputs * tf.get_variable("v", [], initializer=tf.ones_initializer(), dtype=inputs.dtype)
        return new, new


class Old(cells.RNNCell):
    """As written for early versions: no `super().__init__()`, and `__call__`."""

    def __init__(self, n):
        self.n = n

    state_size = property(lambda self: self.n)
    output_size = property(lambda self: self.n)

    def __call__(self, inputs, state, scope=None):
        with tf.variable_scope(scope or type(self).__name__):
            new = tf.tanh(tf.layers.dense(tf.concat([inputs, state], 1), self.n, name="mix"))
        return new, new


def test_cells_of_the_user(rng):
    data = rng.normal(size=(2, 4, 3))
    ones, _ = tf.nn.dynamic_rnn(Bare(), tf.constant(data), dtype=tf.float64)
    deep, _ = tf.nn.dynamic_rnn(cells.MultiRNNCell([Old(5), cells.DropoutWrapper(Old(6))]), tf.constant(data), dtype=tf.float64)
    static, _ = tf.nn.static_rnn(Old(5), tf.unstack(tf.constant(data), axis=1), dtype=tf.float64, scope="s")
    assert names() == ["rnn/bare/v", *[f"rnn/multi_rnn_cell/cell_{k}/Old/mix/{v}" for k in (0, 1) for v in ("kernel", "bias")],
                       "s/Old/mix/kernel", "s/Old/mix/bias"]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        close(sess.run(ones), 1 + np.cumsum(data, 1))
        assert sess.run(deep).shape == (2, 4, 6) and len(static) == 4


# ---------------------------------------------------------------- both directions


@pytest.mark.parametrize("lengths", [None, [5, 2, 1]])
@pytest.mark.parametrize("time_major", [False, True])
def test_bidirectional(rng, lengths, time_major):
    data = rng.normal(size=(STEPS, BATCH, DEPTH))
    x = tf.constant(data if time_major else data.transpose(1, 0, 2))
    outs, states = tf.nn.bidirectional_dynamic_rnn(cells.GRUCell(U), cells.BasicLSTMCell(U), x, lengths, dtype=tf.float64,
                                                   time_major=time_major)
    static = tf.nn.static_bidirectional_rnn(cells.GRUCell(U), cells.BasicLSTMCell(U), tf.unstack(tf.constant(data)), dtype=tf.float64,
                                            sequence_length=lengths, scope=tf.VariableScope(True, "bidirectional_rnn"))
    with started(rng) as sess:
        found = values(sess)
        outs, states, static = sess.run([outs, states, static])
    turned = data[::-1] if lengths is None else turn(data, lengths)
    zeros = np.zeros((BATCH, U))
    fw, state_fw = unrolled(np_gru, below(found, "bidirectional_rnn/fw/gru_cell"), data, zeros, lengths)
    bw, state_bw = unrolled(np_lstm, below(found, "bidirectional_rnn/bw/basic_lstm_cell"), turned, LSTMStateTuple(zeros, zeros), lengths)
    bw = bw[::-1] if lengths is None else turn(bw, lengths)
    close([a if time_major else a.transpose(1, 0, 2) for a in outs], [fw, bw])
    close(states, (state_fw, state_bw))
    close(np.stack(static[0]), np.concatenate([fw, bw], 2))
    close(static[1:], (state_fw, state_bw))


def turn(x, lengths):
    """Each sequence of [time, batch, ...] from its end, what comes after it unchanged."""
    x = x.copy()
    for b, n in enumerate(lengths):
        x[:n, b] = x[:n, b][::-1]
    return x


def test_stacks_of_both_directions(rng):
    """Dynamic and static, with the initial states given; the second layer reads both directions of the first."""
    data = rng.normal(size=(STEPS, BATCH, DEPTH))
    def make():
        return [cells.GRUCell(U), cells.GRUCell(3)]

    first = [[tf.constant(rng.normal(size=(BATCH, n))) for n in (U, 3)] for _ in range(2)]
    out, fw, bw = contrib.stack_bidirectional_dynamic_rnn(make(), make(), tf.constant(data), *first, dtype=tf.float64, time_major=True)
    static, *ends = contrib.stack_bidirectional_rnn(make(), make(), tf.unstack(tf.constant(data)), *first, dtype=tf.float64, scope="s")
    assert [v.shape.as_list() for v in tf.global_variables() if v.op.name.endswith("fw/gru_cell/gates/kernel")] == [
        [DEPTH + U, 2 * U], [2 * U + 3, 6]] * 2
    with started(rng) as sess:
        copy = {n.replace("/bidirectional_rnn", "").replace("stack_bidirectional_rnn", "s"): v for n, v in values(sess).items()}
        for v in tf.global_variables():
            v.load(copy[v.op.name.replace("/bidirectional_rnn", "").replace("stack_bidirectional_rnn", "s")], sess)
        out, fw, bw, static, ends = sess.run([out, fw, bw, static, ends])
    assert out.shape == (STEPS, BATCH, 6)
    close(out, np.stack(static))
    close([fw, bw], ends)


@pytest.mark.parametrize("wrong, message", [
    (([], [1]), "at least one fw cell"), (([1], []), "at least one bw cell"), ((3, [1]), "cells_fw must be a list"),
    (([1, 2], [1]), "same depth"), (([1], [1], None, [2]), "initial_states_fw must be a list"),
    (([1], [1], None, None, (2,)), "initial_states_bw must be a list")])
def test_stacks_of_wrong_lists(wrong, message):
    fw, bw, *rest = wrong
    for fn in (contrib.stack_bidirectional_dynamic_rnn, contrib.stack_bidirectional_rnn):
        with pytest.raises(ValueError, match=message):
            fn(fw, bw, *([None] if not rest else [None]), *[[1, 2] if r == [2] else r for r in rest[1:]])


# ---------------------------------------------------------------- raw_rnn


def test_raw_rnn_is_dynamic_rnn(rng):
    """The example of TF1's documentation, with a loop state that counts."""
    data, lengths = rng.normal(size=(STEPS, BATCH, DEPTH)), [4, 2, 1]
    cell = cells.LSTMCell(U)
    inputs = tf.TensorArray(tf.float64, STEPS).unstack(tf.constant(data))

    def loop_fn(time, output, state, count):
        finished = time >= tf.constant(lengths)
        next_input = tf.cond(tf.reduce_all(finished), lambda: tf.zeros([BATCH, DEPTH], tf.float64), lambda: inputs.read(time))
        if output is None:
            return finished, next_input, cell.zero_state(BATCH, tf.float64), None, tf.constant(0)
        return finished, next_input, state, output, count + 1

    emitted, final, count = tf.nn.raw_rnn(cell, loop_fn)
    outs, state = tf.nn.dynamic_rnn(cell, tf.constant(data), lengths, dtype=tf.float64, time_major=True)
    slopes = [tf.gradients(tf.reduce_sum(tf.square(x)), cell.weights) for x in (emitted.stack(), outs)]
    assert names() == ["rnn/lstm_cell/kernel", "rnn/lstm_cell/bias"]
    with started(rng) as sess:
        emitted, final, count, outs, state, slopes = sess.run([emitted.stack(), final, count, outs, state, slopes])
    assert count == 4 and emitted.shape == (4, BATCH, U)
    close([emitted, final], [outs[:4], state])
    close(slopes[0], slopes[1])


def test_raw_rnn_feeds_back_what_it_emits(rng):
    """Emitting something else than the cell's output: what a greedy decoder does; no loop state."""
    cell = cells.BasicRNNCell(U)
    w = rng.normal(size=(U, 5))
    table = rng.normal(size=(5, DEPTH))

    def loop_fn(time, output, state, loop_state):
        assert loop_state is None or loop_state.dtype is tf.int32
        if output is None:
            shapes = tf.zeros([], tf.int64), tf.zeros([5], tf.float64)
            return tf.zeros([2], tf.bool), tf.constant(table[[0, 1]]), tf.zeros([2, U], tf.float64), shapes, None
        logits = tf.matmul(output, tf.constant(w))
        chosen = tf.argmax(logits, 1)
        return tf.fill([2], time >= 3), tf.gather(tf.constant(table), chosen), state, (chosen, logits), None

    (ids, logits), final, loop_state = tf.nn.raw_rnn(cell, loop_fn, scope="decoder")
    assert loop_state is None and (ids.dtype, logits.dtype) == (tf.int64, tf.float64)
    with started(rng) as sess:
        found = below(values(sess), "decoder/basic_rnn_cell")
        ids, logits, final = sess.run([ids.stack(), logits.stack(), final])
    x, h = table[[0, 1]], np.zeros((2, U))
    for t in range(3):
        _, h = np_rnn(found, x, h)
        close(logits[t], h @ w)
        assert ids[t].tolist() == (h @ w).argmax(1).tolist()
        x = table[ids[t]]
    close(final, h)
    assert ids.shape == (3, 2)


def test_raw_rnn_of_wrong_arguments():
    cell = cells.BasicRNNCell(4)
    with pytest.raises(TypeError, match="loop_fn must be a callable"):
        tf.nn.raw_rnn(cell, None)
    with pytest.raises(TypeError, match="not an RNNCell"):
        tf.nn.raw_rnn(tf.zeros, lambda *_: None)
    with pytest.raises(ValueError, match="structure"):
        tf.nn.raw_rnn(cell, lambda *_: (tf.zeros([2], tf.bool), tf.zeros([2, 3]), (tf.zeros([2, 4]), tf.zeros([2, 4])), None, None))
    with pytest.raises(ValueError, match="one batch size"):
        tf.nn.raw_rnn(Pair(), lambda *_: (tf.zeros([2], tf.bool), (tf.zeros([2, 3]), tf.zeros([3, 3])),
                                          (tf.zeros([2, 2, 3]), tf.zeros([2, 4])), None, None))


# ---------------------------------------------------------------- wrappers


class Through(cells.RNNCell):
    """The output is the input; the state is that of an LSTM, of ones."""

    state_size = LSTMStateTuple(4, 4)
    output_size = 4

    def call(self, inputs, state):
        return inputs, LSTMStateTuple(tf.ones_like(state.c), tf.ones_like(state.h))


def passed(steps=6, **arguments):
    """Outputs [time, batch, 4] and final state of Through in a DropoutWrapper, over inputs of ones, run twice."""
    cell = cells.DropoutWrapper(Through(), **arguments)
    outs, final = tf.nn.dynamic_rnn(cell, tf.ones([steps, 50, 4]), dtype=tf.float32, time_major=True)
    with tf.Session() as sess:
        return [sess.run([outs, final]) for _ in range(2)]


@pytest.mark.parametrize("what", ["input", "output"])
def test_dropout_of_inputs_and_outputs(what):
    (a, state), (b, _) = passed(**{f"{what}_keep_prob": 0.25}, seed=1)
    assert set(np.unique(a)) == {0, 4} and 0.2 < (a > 0).mean() < 0.3
    assert any((a[0] != a[t]).any() for t in range(1, 6)) and (a != b).any()
    assert (state.c == 1).all() and (state.h == 1).all()


def test_dropout_of_states():
    """Not of an LSTM's memory, and not of the output; a filter may choose."""
    a, state = passed(state_keep_prob=0.5)[0]
    assert (a == 1).all() and (state.c == 1).all() and set(np.unique(state.h)) == {0, 2}
    _, state = passed(state_keep_prob=0.5, dropout_state_filter_visitor=lambda s: True)[0]
    assert set(np.unique(state.c)) == set(np.unique(state.h)) == {0, 2} and (state.c != state.h).any()
    _, state = passed(state_keep_prob=0.5, dropout_state_filter_visitor=lambda s: not isinstance(s, LSTMStateTuple))[0]
    assert (state.c == 1).all() and (state.h == 1).all()
    seen = []
    passed(state_keep_prob=0.5, dropout_state_filter_visitor=lambda s: seen.append(s) or (
        LSTMStateTuple(c=True, h=False) if isinstance(s, LSTMStateTuple) else True))
    assert [isinstance(s, LSTMStateTuple) for s in seen] == [True, False]


def test_variational_dropout_drops_the_same_at_every_step():
    (a, state), (b, _) = passed(input_keep_prob=0.5, output_keep_prob=0.5, state_keep_prob=0.5, variational_recurrent=True,
                                input_size=4, dtype=tf.float32)
    assert (a == a[0]).all() and set(np.unique(a)) <= {0, 4}
    assert (a[0] == a[0, 0]).all()  # one draw for the batch, as in TF1
    assert set(np.unique(state.h)) <= {0, 2} and (state.c == 1).all()
    many = np.stack([x[0][0, 0] for _ in range(4) for x in passed(input_keep_prob=0.5, variational_recurrent=True, input_size=4,
                                                                  dtype=tf.float32)])
    assert (many != many[0]).any()  # each run draws anew


def test_dropout_with_a_fed_probability(rng):
    keep = tf.placeholder(tf.float32, [])
    outs, _ = tf.nn.dynamic_rnn(cells.DropoutWrapper(Through(), input_keep_prob=keep), tf.ones([2, 50, 4]), dtype=tf.float32)
    with tf.Session() as sess:
        assert (sess.run(outs, {keep: 1.0}) == 1).all()
        assert set(np.unique(sess.run(outs, {keep: 0.5}))) == {0, 2}


def test_dropout_seeds():
    """The op seeds of TF1 for seed=7: the first 31 bits of MD5 of "7input_0", ... (worked out with Python's hashlib)."""
    import hashlib

    cell = cells.DropoutWrapper(Through(), 0.5, 0.5, seed=7)
    for what in ("input", "output", "state"):
        assert cell._seed_of(what, 3) == int(hashlib.md5(f"7{what}_3".encode()).hexdigest()[:8], 16) & 0x7FFFFFFF
    outs = []
    for _ in range(2):
        with tf.Graph().as_default():
            outs.append(passed(input_keep_prob=0.5, seed=7)[0][0])
    np.testing.assert_array_equal(*outs)


@pytest.mark.parametrize("arguments, error, message", [
    ({"input_keep_prob": 1.5}, ValueError, "Parameter input_keep_prob must be between 0 and 1: 1.5"),
    ({"state_keep_prob": -0.5}, ValueError, "Parameter state_keep_prob"),
    ({"variational_recurrent": True}, ValueError, "dtype must be provided"),
    ({"variational_recurrent": True, "dtype": "float32", "input_keep_prob": 0.5}, ValueError, "input_size must be provided"),
    ({"dropout_state_filter_visitor": 3}, TypeError, "must be callable")])
def test_dropout_of_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        cells.DropoutWrapper(cells.GRUCell(4), **arguments)


def test_wrappers_want_a_cell():
    for make in (cells.DropoutWrapper, cells.ResidualWrapper, lambda c: cells.DeviceWrapper(c, "/cpu:0"), contrib.HighwayWrapper,
                 lambda c: contrib.EmbeddingWrapper(c, 3, 4), lambda c: contrib.AttentionCellWrapper(c, 3)):
        with pytest.raises(TypeError, match="'cell' .* is not an RNNCell: 'output_size' property is missing"):
            make(tf.tanh)


def test_residual_wrapper(rng):
    x, h = tf.constant(rng.normal(size=(2, U))), tf.constant(rng.normal(size=(2, U)))
    cell = cells.GRUCell(U)
    plain, state = cell(x, h)
    added, same = cells.ResidualWrapper(cell)(x, h)
    other, _ = cells.ResidualWrapper(cell, lambda i, o: i * o)(x, h)
    with started(rng) as sess:
        x, plain, state, added, same, other = sess.run([x, plain, state, added, same, other])
    np.testing.assert_allclose(added, x + plain)
    np.testing.assert_allclose(other, x * plain)
    np.testing.assert_array_equal(state, same)
    with pytest.raises(ValueError, match="incompatible"):
        cells.ResidualWrapper(cells.GRUCell(3))(tf.zeros([2, 4]), tf.zeros([2, 3]))


def test_highway_wrapper(rng):
    data, first = rng.normal(size=(2, U)), rng.normal(size=(2, U))
    for coupled in (True, False):
        with tf.variable_scope(f"coupled_{coupled}"):
            out, _ = contrib.HighwayWrapper(cells.BasicRNNCell(U), coupled, carry_bias_init=2.0)(tf.constant(data), tf.constant(first))
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            w = below(values(sess), f"coupled_{coupled}")
            out = sess.run(out)
        assert set(w) == {"basic_rnn_cell/kernel", "basic_rnn_cell/bias", "carry_w", "carry_b"} | (
            set() if coupled else {"transform_w", "transform_b"})
        assert (w["carry_b"] == 2).all()
        carry = sigmoid(data @ w["carry_w"] + 2)
        transform = 1 - carry if coupled else sigmoid(data @ w["transform_w"] - 2)
        close(out, data * carry + np_rnn(below(w, "basic_rnn_cell"), data, first)[0] * transform)


def test_embedding_wrapper(rng):
    ids = tf.constant([[1, 2], [0, 2]])
    cell = contrib.EmbeddingWrapper(cells.BasicRNNCell(U), 3, DEPTH)
    outs, _ = tf.nn.static_rnn(cell, tf.unstack(ids, axis=1), dtype=tf.float64)
    assert names()[0] == "rnn/embedding_wrapper/embedding"
    with started(rng) as sess:
        w = below(values(sess), "rnn/embedding_wrapper")
        outs = sess.run(tf.stack(outs))
    close(outs, unrolled(np_rnn, below(w, "basic_rnn_cell"), w["embedding"][[[1, 0], [2, 2]]], np.zeros((2, U)))[0])
    with pytest.raises(ValueError, match="must be > 0"):
        contrib.EmbeddingWrapper(cells.BasicRNNCell(U), 0, 3)


def test_wrapped_cells_have_the_weights_of_the_cell():
    cell = cells.MultiRNNCell([cells.DropoutWrapper(cells.GRUCell(4)), cells.BasicRNNCell(4, trainable=False)])
    assert cell.weights == []
    cell(tf.zeros([1, 4]), cell.zero_state(1, tf.float32))
    assert [v.op.name for v in cell.trainable_variables] == [
        f"multi_rnn_cell/cell_0/gru_cell/{g}/{v}" for g in ("gates", "candidate") for v in ("kernel", "bias")]
    assert [v.op.name for v in cell.non_trainable_variables] == [f"multi_rnn_cell/cell_1/basic_rnn_cell/{v}" for v in ("kernel", "bias")]
    assert len(cell.variables) == 6


def test_device_wrapper():
    cell = cells.DeviceWrapper(cells.GRUCell(4), "/device:CPU:0")
    out, _ = cell(tf.zeros([1, 4]), cell.zero_state(1, tf.float32))
    assert out.device.endswith("CPU:0")


def test_activations_and_initializers(rng):
    x, state = tf.constant(rng.normal(size=(2, 3))), tf.zeros([2, 4], tf.float64)
    by_name, _ = cells.BasicRNNCell(4, activation="relu")(x, state)
    cells.BasicRNNCell(4, activation=tf.nn.relu, name="other")(x, state)
    gru = cells.GRUCell(4, kernel_initializer=tf.constant_initializer(0.5), bias_initializer=tf.constant_initializer(0.25))
    gru(x, state)
    plain = cells.GRUCell(4)
    plain(x, state)
    lstm = cells.LSTMCell(4, initializer=tf.ones_initializer(), use_peepholes=True, num_proj=2)
    lstm(x, LSTMStateTuple(state, state[:, :2]))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert (sess.run(by_name) >= 0).all()
        assert [np.unique(w).tolist() for w in sess.run(gru.weights)] == [[0.5], [0.25]] * 2
        assert [np.unique(w).tolist() for w in sess.run([plain.weights[1], plain.weights[3]])] == [[1], [0]]
        assert [np.unique(w).tolist() for w in sess.run(lstm.weights)] == [[1], [0], [1], [1], [1], [1]]
    with pytest.raises(ValueError, match="Unknown activation"):
        cells.GRUCell(4, activation="no such")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("skip", [False, True])
def test_convolutional_lstm(rng, rank, skip):
    """Against an LSTM at each place: with kernels of one element the convolution is a product."""
    space = [3, 2, 2][:rank]
    data = rng.normal(size=(2, 4, *space, DEPTH))
    make = getattr(contrib, f"Conv{rank}DLSTMCell")
    cell = make(input_shape=[*space, DEPTH], output_channels=U, kernel_shape=[1] * rank, skip_connection=skip)
    outs, final = tf.nn.dynamic_rnn(cell, tf.constant(data), [4, 2], dtype=tf.float64)
    assert outs.shape.as_list() == [2, 4, *space, U + (DEPTH if skip else 0)] and final.c.shape.as_list() == [2, *space, U]
    scope = f"rnn/conv_{rank}d_lstm_cell"
    assert {v.op.name: v.shape.as_list() for v in tf.global_variables()} == {
        f"{scope}/kernel": [*[1] * rank, DEPTH + U, 4 * U], f"{scope}/biases": [4 * U]}
    with started(rng) as sess:
        w = below(values(sess), scope)
        outs, final = sess.run([outs, final])
    w = {"kernel": w["kernel"].reshape(DEPTH + U, 4 * U), "bias": w["biases"]}
    places = np.moveaxis(data.reshape(2, 4, -1, DEPTH), 1, 0).reshape(4, -1, DEPTH)
    wanted, state = unrolled(np_lstm, w, places, LSTMStateTuple(*np.zeros((2, places.shape[1], U))),
                             np.repeat([4, 2], places.shape[1] // 2))
    close(np.moveaxis(outs[..., :U], 1, 0).reshape(wanted.shape), wanted)
    close([s.reshape(-1, U) for s in final], state)
    if skip:
        close(outs[0, ..., U:], data[0])
        assert not outs[1, 2:].any()
    with pytest.raises(ValueError, match="Invalid input_shape"):
        make(input_shape=[3], output_channels=U, kernel_shape=[1] * rank)


# ---------------------------------------------------------------- networks in one piece


@pytest.mark.parametrize("lengths", [None, [5, 3, 0]])
@pytest.mark.parametrize("peephole", [False, True])
def test_fused_lstm(rng, lengths, peephole):
    data = rng.normal(size=(STEPS, BATCH, DEPTH))
    first = LSTMStateTuple(*rng.normal(size=(2, BATCH, U)))
    fused = contrib.LSTMBlockFusedCell(U, forget_bias=0.5, use_peephole=peephole)
    outs, final = fused(tf.constant(data), initial_state=mapped(tf.constant, first), sequence_length=lengths)
    listed, same = fused(tf.unstack(tf.constant(data)), initial_state=mapped(tf.constant, first), sequence_length=lengths)
    assert names() == [f"lstm_fused_cell/{n}" for n in ["kernel", "bias", *(["w_i_diag", "w_f_diag", "w_o_diag"] if peephole else [])]]
    assert isinstance(final, LSTMStateTuple) and len(listed) == STEPS
    with started(rng) as sess:
        w = below(values(sess), "lstm_fused_cell")
        outs, final, listed, same = sess.run([outs, final, listed, same])
    wanted = unrolled(lambda *a: np_lstm(*a, forget_bias=0.5), w, data, first, lengths)
    close([outs, final], wanted)
    close([np.stack(listed), same], wanted)


def test_fused_lstm_of_wrong_arguments(rng):
    fused = contrib.LSTMBlockFusedCell(U)
    x = tf.zeros([3, 2, DEPTH])
    with pytest.raises(ValueError, match="initial_state or dtype"):
        fused(x)
    with pytest.raises(ValueError, match="length 2"):
        fused(x, initial_state=(x[0],) * 3)
    with pytest.raises(ValueError, match="expected ndim=3"):
        contrib.LSTMBlockFusedCell(U)(x[0], dtype=tf.float32)
    outs, _ = fused(x, dtype=tf.float32, sequence_length=tf.placeholder_with_default([2, 4], [2]))
    with started(rng) as sess, pytest.raises(tf.errors.InvalidArgumentError):
        sess.run(outs)


def test_gradient_of_the_clipped_block_cell(rng):
    """TF1's kernels clip c and pass gradients on as if they had not: d h / d x of one step, by hand."""
    cell = contrib.LSTMBlockCell(1, cell_clip=0.1)
    x, zero = tf.constant([[2.0]], tf.float64), tf.zeros([1, 1], tf.float64)
    out, _ = cell(x, LSTMStateTuple(zero, zero))
    slope = tf.gradients(out, x)[0]
    with started(rng) as sess:
        w = below(values(sess), "lstm_cell")
        out, slope = sess.run([out, slope])
    k = w["kernel"][0]
    i, j, f, o = 2 * k + w["bias"]
    c = np.clip(sigmoid(i) * np.tanh(j), -0.1, 0.1)
    assert abs(sigmoid(i) * np.tanh(j)) > 0.1
    close(out, [[sigmoid(o) * np.tanh(c)]])
    dc = sigmoid(i) * (1 - sigmoid(i)) * k[0] * np.tanh(j) + sigmoid(i) * (1 - np.tanh(j) ** 2) * k[1]
    close(slope, [[sigmoid(o) * (1 - sigmoid(o)) * k[3] * np.tanh(c) + sigmoid(o) * (1 - np.tanh(c) ** 2) * dc]])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_fused_adaptors(rng, dynamic, listed):
    data = rng.normal(size=(STEPS, BATCH, DEPTH))
    x = tf.unstack(tf.constant(data)) if listed else tf.constant(data)
    fused = contrib.FusedRNNCellAdaptor(cells.GRUCell(U), use_dynamic_rnn=dynamic)
    fw, state_fw = fused(x, dtype=tf.float64, sequence_length=[5, 2, 1])
    bw, state_bw = contrib.TimeReversedFusedRNN(fused)(x, dtype=tf.float64)
    assert isinstance(fw, list) == isinstance(bw, list) == listed and names()[0] == "rnn/gru_cell/gates/kernel"
    with started(rng) as sess:
        w = below(values(sess), "rnn/gru_cell")
        fw, state_fw, bw, state_bw = sess.run([fw, state_fw, bw, state_bw])
    close([np.stack(fw), state_fw], unrolled(np_gru, w, data, np.zeros((BATCH, U)), [5, 2, 1]))
    out, state = unrolled(np_gru, w, data[::-1], np.zeros((BATCH, U)))
    close([np.stack(bw), state_bw], [out[::-1], state])


def test_time_reversed_with_lengths(rng):
    data = rng.normal(size=(STEPS, BATCH, DEPTH))
    lengths = [5, 2, 1]
    bw, _ = contrib.TimeReversedFusedRNN(contrib.LSTMBlockFusedCell(U))(tf.constant(data), dtype=tf.float64, sequence_length=lengths)
    with started(rng) as sess:
        w = below(values(sess), "lstm_fused_cell")
        bw = sess.run(bw)
    out, _ = unrolled(np_lstm, w, turn(data, lengths), LSTMStateTuple(*np.zeros((2, BATCH, U))), lengths)
    close(bw, turn(out, lengths))


# ---------------------------------------------------------------- saved states


class Kept:
    """A state saver over variables, as TF1's batch_sequences_with_states has one."""

    def __init__(self, sizes):
        self.kept = {n: tf.get_variable(n, [2, size], tf.float64, tf.zeros_initializer(), trainable=False) for n, size in sizes.items()}

    def state(self, name):
        return tf.identity(self.kept[name])

    def save_state(self, name, value):
        return tf.assign(self.kept[name], value)


def test_state_saving(rng):
    """Two halves of a sequence in two runs are the whole in one."""
    data = rng.normal(size=(4, 2, DEPTH))
    half = tf.placeholder(tf.float64, [2, 2, DEPTH])
    cell = cells.BasicLSTMCell(U)
    saver = Kept({"c": U, "h": U})
    outs, state = tf.nn.static_state_saving_rnn(cell, tf.unstack(half), saver, ("c", "h"))
    whole, final = tf.nn.static_rnn(cell, tf.unstack(tf.constant(data)), dtype=tf.float64)
    assert isinstance(state, LSTMStateTuple)
    with started(rng) as sess:
        sess.run([v.initializer for v in saver.kept.values()])
        pieces = [sess.run([outs, state], {half: data[i:i + 2]}) for i in (0, 2)]
        whole, final = sess.run([whole, final])
        close(sess.run([saver.kept["c"], saver.kept["h"]]), final)
    close(np.stack(pieces[0][0] + pieces[1][0]), np.stack(whole))
    close(pieces[1][1], final)
    with pytest.raises(ValueError, match="same type as cell.state_size"):
        tf.nn.static_state_saving_rnn(cell, [tf.zeros([2, 3])], saver, "c")
    with pytest.raises(ValueError, match="1 vs. 2"):
        tf.nn.static_state_saving_rnn(cell, [tf.zeros([2, 3])], saver, ("c",))


# ---------------------------------------------------------------- errors


def hold(*sizes, dtype=tf.float32):
    return tf.placeholder(dtype, sizes)


LSTM = cells.BasicLSTMCell
BUILD_ERRORS = {
    "lengths of rank 2": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), [[1, 2]], dtype=tf.float32), ValueError,
                          r"sequence_length must be a vector of length batch_size, but saw shape: \(1, 2\)"),
    "lengths of a number": (lambda: tf.nn.static_rnn(LSTM(4), [hold(2, 3)], dtype=tf.float32, sequence_length=1), ValueError,
                            "sequence_length must be a vector"),
    "too many lengths": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), [1, 2, 3], dtype=tf.float32), ValueError, "size 3"),
    "no dtype": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3)), ValueError, "If there is no initial_state, you must give a dtype"),
    "no dtype, static": (lambda: tf.nn.static_rnn(LSTM(4), [hold(2, 3)]), ValueError, "you must give a dtype"),
    "rank 2": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5), dtype=tf.float32), ValueError, "must have rank at least 3"),
    "rank 1": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2), dtype=tf.float32), ValueError, "to have rank at least 2"),
    "no depth": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, None), dtype=tf.float32), ValueError, "Input size"),
    "no depth, static": (lambda: tf.nn.static_rnn(LSTM(4), [hold(2, None)], dtype=tf.float32), ValueError, "Input size"),
    "no depth, by hand": (lambda: LSTM(4)(hold(2, None), (hold(2, 4), hold(2, 4))), ValueError, "to be known"),
    "other times": (lambda: tf.nn.dynamic_rnn(Pair(), (hold(2, 5, 3), hold(2, 4, 3)), dtype=tf.float32), ValueError, "Time steps"),
    "other batches": (lambda: tf.nn.dynamic_rnn(Pair(), (hold(2, 5, 3), hold(3, 5, 3)), dtype=tf.float32), ValueError, "Batch_size"),
    "other batches, static": (lambda: tf.nn.static_rnn(LSTM(4), [hold(2, 3), hold(3, 3)], dtype=tf.float32), ValueError, "batch size"),
    "no cell": (lambda: tf.nn.dynamic_rnn(3, hold(2, 5, 3)), TypeError, r"'cell' \(3\) is not an RNNCell: .*is not callable"),
    "no cell, static": (lambda: tf.nn.static_rnn(tf.tanh, [hold(2, 3)]), TypeError, "not an RNNCell"),
    "no second cell": (lambda: tf.nn.bidirectional_dynamic_rnn(LSTM(4), None, hold(2, 5, 3)), TypeError, "'cell_bw'"),
    "no first cell": (lambda: tf.nn.static_bidirectional_rnn(None, LSTM(4), [hold(2, 3)]), TypeError, "'cell_fw'"),
    "a tensor": (lambda: tf.nn.static_rnn(LSTM(4), hold(2, 5, 3), dtype=tf.float32), TypeError, "inputs must be a sequence"),
    "an empty list": (lambda: tf.nn.static_rnn(LSTM(4), [], dtype=tf.float32), ValueError, "inputs must not be empty"),
    "a tensor, both": (lambda: tf.nn.static_bidirectional_rnn(LSTM(4), LSTM(4), hold(2, 5, 3)), TypeError, "inputs must be a sequence"),
    "an empty list, both": (lambda: tf.nn.static_bidirectional_rnn(LSTM(4), LSTM(4), []), ValueError, "must not be empty"),
    "a tensor as state": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), initial_state=hold(2, 4)), TypeError, "LSTMStateTuple"),
    "three states": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), initial_state=(hold(2, 4),) * 3), ValueError, "length 2"),
    "a plain tuple as state": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), initial_state=(hold(2, 4), hold(2, 4))), TypeError,
                               "same sequence type"),
    "a state too wide": (lambda: tf.nn.dynamic_rnn(cells.GRUCell(4), hold(2, 5, 3), initial_state=hold(2, 5)), ValueError, "8 and 7"),
    "a state of another batch": (lambda: tf.nn.dynamic_rnn(cells.GRUCell(4), hold(2, 5, 3), initial_state=hold(3, 4)), ValueError,
                                 "2 and 3"),
    "a state of another dtype": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), dtype=tf.float64), TypeError, "float64"),
    "states of several dtypes": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3), initial_state=LSTMStateTuple(
        hold(2, 4), hold(2, 4, dtype=tf.float64))), ValueError, "different inferred_dtypes"),
    "integers": (lambda: tf.nn.dynamic_rnn(LSTM(4), hold(2, 5, 3, dtype=tf.int32), dtype=tf.float32), ValueError, "floating point"),
    "integer cell": (lambda: LSTM(4, dtype=tf.int32), ValueError, "RNN cell only supports floating point inputs, but saw dtype: int32"),
    "rank 3 by hand": (lambda: LSTM(4)(hold(2, 5, 3), (hold(2, 4), hold(2, 4))), ValueError, "expected ndim=2, found ndim=3"),
    "a stack of nothing": (lambda: cells.MultiRNNCell([]), ValueError, "at least one cell"),
    "a stack of no list": (lambda: cells.MultiRNNCell(LSTM(4)), TypeError, "must be a list or tuple"),
    "joined tuples": (lambda: cells.MultiRNNCell([LSTM(4)], state_is_tuple=False), ValueError, "the flag state_is_tuple is not set"),
    "a state of the stack": (lambda: cells.MultiRNNCell([cells.GRUCell(4)])(hold(2, 3), hold(2, 4)), ValueError,
                             "Expected state to be a tuple of length 1"),
    "too short a state of the stack": (lambda: cells.MultiRNNCell([cells.GRUCell(4)] * 2)(hold(2, 3), (hold(2, 4),)), ValueError,
                                       "Expected state to be a tuple of length 2"),
    "the base class": (lambda: cells.RNNCell().state_size, NotImplementedError, "Abstract method"),
    "states of two dtypes": (lambda: LSTMStateTuple(hold(1), hold(1, dtype=tf.float64)).dtype, TypeError, "Inconsistent"),
    "an unknown argument": (lambda: cells.GRUCell(4, unknown=3), TypeError, "unknown"),
    "two sizes": (lambda: contrib.GRUBlockCell(3, 4), ValueError, "Exactly one"),
    "no size": (lambda: contrib.GRUBlockCell(), ValueError, "Exactly one"),
    "another size of the block": (lambda: contrib.GRUBlockCell(3)(hold(2, 3), hold(2, 4)), ValueError, "cell_size 3 vs 4"),
    "attention to nothing": (lambda: contrib.AttentionCellWrapper(LSTM(4), 0), ValueError, "greater than zero"),
    "attention of tuples": (lambda: contrib.AttentionCellWrapper(LSTM(4), 2, state_is_tuple=False), ValueError, "state_is_tuple"),
    "no projection": (lambda: contrib.IntersectionRNNCell(4)(hold(2, 3), hold(2, 4)), ValueError, "num_in_proj"),
    "too many shards": (lambda: contrib.CoupledInputForgetGateLSTMCell(2, num_unit_shards=9)(hold(1, 3), (hold(1, 2), hold(1, 2))),
                        ValueError, "Too many shards"),
    "no outputs": (lambda: contrib.OutputProjectionWrapper(LSTM(4), 0), ValueError, "must be > 0"),
}


@pytest.mark.parametrize("case", BUILD_ERRORS)
def test_errors_of_building(case):
    build, error, message = BUILD_ERRORS[case]
    with pytest.raises(error, match=message):
        build()


def test_names_that_are_not_there():
    for module, name, message in ((tf.contrib, "rn", "tf.contrib.rn is not in this release. Did you mean 'rnn'"),
                                  (tf.contrib, "tpu", "tf.contrib.tpu is not in this release"),
                                  (contrib, "LSTMBlokCell", "Did you mean 'LSTMBlockCell'"), (tf.nn, "dynamic_rn", "'dynamic_rnn'"),
                                  (tf.nn, "rnn_cel", "'rnn_cell'")):
        with pytest.raises(AttributeError, match=message):
            getattr(module, name)
    assert "rnn" in dir(tf.contrib) and contrib.BasicLSTMCell is cells.BasicLSTMCell


# ---------------------------------------------------------------- compiled


@pytest.mark.parametrize("name", ["basic_lstm_cell", "gru_cell", "multi_rnn_cell", "attention_cell_wrapper"])
def test_compiled(name, rng):
    """Outputs, states and gradients of compiled loops are the interpreter's, for several numbers of steps and sequences."""
    x, lengths = tf.placeholder(tf.float64, [None, None, DEPTH]), tf.placeholder(tf.int32, [None])
    outs, final = tf.nn.dynamic_rnn(TABLE[name][0](), x, lengths, dtype=tf.float64)
    loss = tf.reduce_sum(tf.square(outs)) + tf.add_n([tf.reduce_sum(s) for s in flat(final)])
    fetches = [outs, final, tf.gradients(loss, [x, *tf.trainable_variables()])]
    feeds = [{x: rng.normal(size=(b, t, DEPTH)), lengths: rng.integers(0, t + 2, b)} for b, t in ((3, 4), (2, 7), (1, 1))]
    with started(rng) as sess:
        wanted = [sess.run(fetches, f) for f in feeds]
        now = values(sess)
    with flags.override(interpret=0), tf.Session() as sess:
        for v in tf.global_variables():
            v.load(now[v.op.name], sess)
        for f, w in zip(feeds, wanted):
            close(sess.run(fetches, f), w, 1e-9)


def test_training_compiled_learns(rng):
    """An LSTM with Adam learns the sum of its inputs so far."""
    x = tf.placeholder(tf.float32, [None, 6, 2])
    outs, _ = tf.nn.dynamic_rnn(cells.BasicLSTMCell(8), x, dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(tf.layers.dense(outs, 1)[:, :, 0] - tf.cumsum(tf.reduce_sum(x, 2), 1)))
    tf.set_random_seed(1)
    step = tf.train.AdamOptimizer(0.02).minimize(loss)
    with flags.override(interpret=0), started(rng, 0.3) as sess:
        sess.run([v.initializer for v in tf.global_variables() if v not in tf.trainable_variables()])
        losses = [sess.run([loss, step], {x: rng.uniform(-0.5, 0.5, size=(16, 6, 2))})[0] for _ in range(150)]
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:10])
