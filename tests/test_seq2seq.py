"""tf.contrib.seq2seq and legacy_seq2seq: steps against NumPy, beam search against all sequences, gradients against differences."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags

seq, legacy = tf.contrib.seq2seq, tf.contrib.legacy_seq2seq
cells = tf.nn.rnn_cell
BATCH, TIME, DEPTH, UNITS, CLASSES = 3, 4, 2, 5, 6
END = 1


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    return np.log(softmax(x))


def started(rng, scale=1.0):
    """A session whose variables have random values."""
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    for v in tf.global_variables():
        v.load(rng.normal(size=v.shape.as_list()) * scale, sess)
    return sess


def names():
    return [v.op.name for v in tf.global_variables()]


def value(sess, name):
    return sess.run(f"{name}:0")


class Rnn:
    """h = tanh([x, h] kernel + bias), then a layer: in NumPy, with the values of a session's variables."""

    def __init__(self, sess, scope, layer):
        self.kernel, self.bias = value(sess, f"{scope}/kernel"), value(sess, f"{scope}/bias")
        self.layer = value(sess, f"{layer}/kernel"), value(sess, f"{layer}/bias")

    def __call__(self, x, h):
        h = np.tanh(np.concatenate([x, h], -1) @ self.kernel + self.bias)
        return h @ self.layer[0] + self.layer[1], h


def training(dtype=tf.float64, **kwargs):
    """A training decoder: (inputs, lengths, initial state, results of dynamic_decode)."""
    x = tf.placeholder(dtype, [None, None, DEPTH])
    lengths, h = tf.placeholder(tf.int32, [None]), tf.placeholder(dtype, [None, UNITS])
    cell = cells.BasicRNNCell(UNITS, dtype=dtype)
    decoder = seq.BasicDecoder(cell, seq.TrainingHelper(x, lengths), h, tf.layers.Dense(CLASSES, name="out", dtype=dtype))
    return x, lengths, h, seq.dynamic_decode(decoder, **kwargs)


CELL = "decoder/basic_rnn_cell"


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("impute", [False, True])
@pytest.mark.parametrize("limit", [None, 3, 9, "fed"])
def test_training_decoder(rng, impute, limit):
    maximum = tf.placeholder_with_default(3, []) if limit == "fed" else limit
    x, lengths, h, (outputs, state, counted) = training(impute_finished=impute, maximum_iterations=maximum)
    sess, n = started(rng), np.array([4, 0, 2])
    feeds = {x: rng.normal(size=(BATCH, TIME, DEPTH)), lengths: n, h: rng.normal(size=(BATCH, UNITS))}
    found, last, count = sess.run([outputs, state, counted], feeds)
    steps = 3 if limit in (3, "fed") else 4
    rnn, now = Rnn(sess, CELL, "decoder/out"), feeds[h]
    expected = np.zeros((BATCH, steps, CLASSES))
    for t in range(steps):
        expected[:, t], after = rnn(feeds[x][:, t], now)
        if impute:
            expected[n <= t, t], after[n <= t] = 0, now[n <= t]
        now = after
    np.testing.assert_allclose(found.rnn_output, expected, rtol=1e-12)
    np.testing.assert_allclose(last, now, rtol=1e-12)
    np.testing.assert_array_equal(count, np.minimum(n, steps))
    ids = expected.argmax(-1)
    if impute:
        ids[np.arange(steps) >= n[:, None]] = 0
    np.testing.assert_array_equal(found.sample_id, ids)
    assert found.sample_id.dtype == count.dtype == np.int32


def test_time_major(rng):
    x, lengths, h, (outputs, _, _) = training(output_time_major=True)
    y = tf.transpose(x, [1, 0, 2])
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        helper = seq.TrainingHelper(y, lengths, time_major=True)
        cell, layer = cells.BasicRNNCell(UNITS, dtype=tf.float64), tf.layers.Dense(CLASSES, name="out", dtype=tf.float64)
        again, _, _ = seq.dynamic_decode(seq.BasicDecoder(cell, helper, h, layer), scope=tf.VariableScope(True, "decoder"))
    sess = started(rng)
    feeds = {x: rng.normal(size=(2, TIME, DEPTH)), lengths: [4, 3], h: rng.normal(size=(2, UNITS))}
    a, b = sess.run([outputs, again], feeds)
    assert a.rnn_output.shape == (TIME, 2, CLASSES)
    np.testing.assert_array_equal(a.rnn_output, b.rnn_output.transpose(1, 0, 2))


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_no_steps(rng, limit):
    x, lengths, h, results = training(maximum_iterations=limit)
    feeds = {x: np.zeros((2, 3, DEPTH)), lengths: [0, 0] if limit is None else [2, 3], h: rng.normal(size=(2, UNITS))}
    outputs, state, counted = started(rng).run(results, feeds)
    assert outputs.rnn_output.shape == (2, 0, CLASSES) and outputs.sample_id.shape == (2, 0)
    np.testing.assert_array_equal(state, feeds[h])
    np.testing.assert_array_equal(counted, [0, 0])


def test_no_time_at_all(rng):
    x, lengths, h, (outputs, _, _) = training()
    feeds = {x: np.zeros((2, 0, DEPTH)), lengths: [0, 0], h: np.zeros((2, UNITS))}
    assert started(rng).run(outputs.rnn_output, feeds).shape == (2, 0, CLASSES)


@pytest.mark.parametrize("lengths", [[5, 1], [-1, 2]])
def test_lengths_outside_the_time_axis(rng, lengths):
    x, n, h, (outputs, _, _) = training()
    with pytest.raises(tf.errors.InvalidArgumentError, match="sequence_length must not be"):
        started(rng).run(outputs.rnn_output, {x: np.zeros((2, 4, DEPTH)), n: lengths, h: np.zeros((2, UNITS))})


@pytest.mark.parametrize("swap", [False, True])
def test_gradients_of_training(rng, swap):
    """By central differences in a random direction, through attention, the output layer and the loss."""
    x, lengths = tf.placeholder(tf.float64, [None, None, DEPTH]), tf.placeholder(tf.int32, [None])
    memory, h = tf.placeholder(tf.float64, [None, None, 3]), tf.placeholder(tf.float64, [None, UNITS])
    targets = tf.placeholder(tf.int32, [None, None])
    attention = seq.BahdanauAttention(4, memory, [3, 1], normalize=True, dtype=tf.float64)
    cell = seq.AttentionWrapper(cells.GRUCell(UNITS), attention, attention_layer_size=3)
    state = cell.zero_state(tf.shape(x)[0], tf.float64).clone(cell_state=h)
    decoder = seq.BasicDecoder(cell, seq.TrainingHelper(x, lengths), state, tf.layers.Dense(CLASSES))
    outputs, _, _ = seq.dynamic_decode(decoder, impute_finished=True, swap_memory=swap)
    loss = seq.sequence_loss(outputs.rnn_output, targets, tf.sequence_mask(lengths, dtype=tf.float64))
    wanted = [x, memory, h, *tf.trainable_variables()]
    gradients = tf.gradients(loss, wanted)
    assert None not in gradients
    sess = started(rng, 0.7)
    feeds = {x: rng.normal(size=(2, 3, DEPTH)), memory: rng.normal(size=(2, 3, 3)), h: rng.normal(size=(2, UNITS)),
             targets: rng.integers(0, CLASSES, (2, 3)), lengths: [3, 2]}
    slopes = sess.run(gradients, feeds)
    for t, slope in zip(wanted, slopes):
        direction = rng.normal(size=slope.shape)
        sides = []
        for sign in (1e-5, -1e-5):
            if isinstance(t, tf.Variable):
                before = sess.run(t)
                t.load(before + sign * direction, sess)
                sides.append(sess.run(loss, feeds))
                t.load(before, sess)
            else:
                sides.append(sess.run(loss, {**feeds, t: feeds[t] + sign * direction}))
        np.testing.assert_allclose((slope * direction).sum(), (sides[0] - sides[1]) / 2e-5, rtol=1e-6, atol=1e-9, err_msg=str(t))


def test_gradients_equal_those_of_steps_written_out(rng):
    x, lengths, h, (outputs, state, _) = training(impute_finished=True)
    cell = cells.BasicRNNCell(UNITS, dtype=tf.float64, name="basic_rnn_cell")
    layer = tf.layers.Dense(CLASSES, name="out", dtype=tf.float64)
    with tf.variable_scope("decoder", reuse=True):
        now, rows = h, []
        for t in range(TIME):
            _, after = cell(x[:, t], now)
            rows.append(tf.where(lengths > t, layer(after), tf.zeros([BATCH, CLASSES], tf.float64)))
            now = tf.where(lengths > t, after, now)
    pairs = [(outputs.rnn_output, state), (tf.stack(rows, 1), now)]
    weight = tf.constant(rng.normal(size=(BATCH, TIME, CLASSES)))
    losses = [tf.reduce_sum(weight * y) + tf.reduce_sum(tf.square(s)) for y, s in pairs]
    wanted = [x, h, *tf.trainable_variables()]
    sess = started(rng)
    feeds = {x: rng.normal(size=(BATCH, TIME, DEPTH)), lengths: [4, 0, 3], h: rng.normal(size=(BATCH, UNITS))}
    a, b = sess.run([tf.gradients(loss, wanted) for loss in losses], feeds)
    for one, other in zip(a, b):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- inference


def inference(helper, maximum=7, dtype=tf.float64):
    cell = cells.BasicRNNCell(UNITS, dtype=dtype)
    state = tf.zeros([helper.batch_size, UNITS], dtype)
    return seq.dynamic_decode(seq.BasicDecoder(cell, helper, state, tf.layers.Dense(CLASSES, name="out", dtype=dtype)),
                              maximum_iterations=maximum)


@pytest.mark.parametrize("function", [False, True])
def test_greedy(rng, function):
    table = rng.normal(size=(CLASSES, DEPTH))
    embedding = (lambda ids: tf.nn.embedding_lookup(tf.constant(table), ids)) if function else tf.constant(table)
    start = tf.placeholder(tf.int32, [None])
    outputs, state, lengths = inference(seq.GreedyEmbeddingHelper(embedding, start, END))
    sess = started(np.random.default_rng(11), 2.0)
    starts = np.arange(CLASSES)
    found, last, counted = sess.run([outputs, state, lengths], {start: starts})
    rnn, h, ids, done, expected, counts = Rnn(sess, CELL, "decoder/out"), np.zeros((CLASSES, UNITS)), starts, np.zeros(CLASSES, bool), [], 0
    while not done.all() and len(expected) < 7:
        logits, h = rnn(table[ids], h)
        counts = counts + ~done
        ids = logits.argmax(-1)
        done |= ids == END
        expected.append(ids)
    np.testing.assert_array_equal(found.sample_id, np.stack(expected, 1))
    np.testing.assert_allclose(last, h, rtol=1e-10)
    np.testing.assert_array_equal(counted, counts)
    assert len(set(counts)) > 1  # some ended


def test_greedy_ends_with_a_token_that_is_not_in_the_table(rng):
    """One sequence: when it has ended nothing is looked up, as in TF1."""
    helper = seq.GreedyEmbeddingHelper(tf.zeros([1, DEPTH], tf.float64), [0], CLASSES - 1)
    outputs, _, lengths = inference(helper, None)
    sess = started(rng)
    sess.run(tf.global_variables()[-1].assign([0.0] * (CLASSES - 1) + [99.0]))
    ids, n = sess.run([outputs.sample_id, lengths])
    assert ids.tolist() == [[CLASSES - 1]] and n.tolist() == [1]


def test_samples_follow_the_softmax():
    p = np.array([0.5, 0.3, 0.15, 0.05])

    def first(count, **kwargs):
        helper = seq.SampleEmbeddingHelper(tf.zeros([4, 1]), tf.zeros([count], tf.int32), 9, **kwargs)
        logits = tf.tile([np.log(p).astype(np.float32)], [count, 1])
        return tf.stack([helper.sample(t, logits, None) for t in range(2)])

    with tf.Session() as sess:
        ids, cold = sess.run([first(20000, seed=3), first(500, seed=4, softmax_temperature=0.01)])
    np.testing.assert_allclose(np.bincount(ids[0], minlength=4) / 20000, p, atol=0.015)  # 4 standard deviations
    assert (cold == 0).all()


def test_samples_differ_from_step_to_step(rng):
    helper = seq.SampleEmbeddingHelper(tf.zeros([CLASSES, DEPTH], tf.float64), [0] * 8, 99, seed=1)
    outputs, _, _ = inference(helper, 6)
    sess = started(rng, 0.0)  # all classes are equally likely
    ids = sess.run(outputs.sample_id)
    assert all((ids[:, t] != ids[:, t + 1]).any() for t in range(5))
    assert set(np.unique(ids)) <= set(range(CLASSES)) and len(np.unique(ids)) > 3


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_scheduled_embedding(rng, p):
    table = rng.normal(size=(CLASSES, DEPTH))
    x, n = rng.normal(size=(BATCH, TIME, DEPTH)), np.array([4, 2, 3])
    helper = seq.ScheduledEmbeddingTrainingHelper(x, n, tf.constant(table), p, seed=1, scheduling_seed=2)
    outputs, _, lengths = inference(helper, None)
    sess = started(rng)
    found, counted = sess.run([outputs, lengths])
    rnn, h, inputs = Rnn(sess, CELL, "decoder/out"), np.zeros((BATCH, UNITS)), x[:, 0]
    for t in range(TIME):
        logits, h = rnn(inputs, h)
        np.testing.assert_allclose(found.rnn_output[:, t], logits, rtol=1e-10)
        ids = found.sample_id[:, t]
        assert (ids == -1).all() if p == 0 else (ids >= 0).all()
        inputs = x[:, min(t + 1, TIME - 1)] if p == 0 else table[ids]
    np.testing.assert_array_equal(counted, n)


@pytest.mark.parametrize("layer, more", [(False, False), (True, False), (True, True)])
def test_scheduled_outputs(rng, layer, more):
    """The outputs of the cell are the next inputs (probability 1), through a layer, with auxiliary inputs behind them."""
    x, n, extra = rng.normal(size=(2, TIME, UNITS)), [4, 3], rng.normal(size=(2, TIME, 1))
    helper = seq.ScheduledOutputTrainingHelper(x, n, 1.0, next_input_layer=tf.layers.Dense(UNITS, name="feed", dtype=tf.float64) if layer
                                               else None, auxiliary_inputs=extra if more else None)
    cell = cells.BasicRNNCell(UNITS, dtype=tf.float64)
    outputs, _, _ = seq.dynamic_decode(seq.BasicDecoder(cell, helper, tf.zeros([2, UNITS], tf.float64)))
    sess = started(rng)
    found = sess.run(outputs)
    kernel, bias = value(sess, f"{CELL}/kernel"), value(sess, f"{CELL}/bias")
    h, inputs = np.zeros((2, UNITS)), np.concatenate([x, extra], -1)[:, 0] if more else x[:, 0]
    for t in range(TIME):
        h = np.tanh(np.concatenate([inputs, h], -1) @ kernel + bias)
        np.testing.assert_allclose(found.rnn_output[:, t], h, rtol=1e-10)
        inputs = h @ value(sess, "decoder/feed/kernel") + value(sess, "decoder/feed/bias") if layer else h
        if more:
            inputs = np.concatenate([inputs, extra[:, min(t + 1, TIME - 1)]], -1)
    assert found.sample_id.tolist() == [[1] * TIME] * 2


def test_custom_and_inference_helpers_agree(rng):
    start, matrix = rng.normal(size=(2, DEPTH)), tf.constant(rng.normal(size=(UNITS, DEPTH)))
    end = lambda sample: tf.reduce_sum(sample, 1) > 1.0  # noqa: E731
    custom = seq.CustomHelper(
        initialize_fn=lambda: (tf.zeros([2], tf.bool), tf.constant(start)),
        sample_fn=lambda time, outputs, state: tf.matmul(outputs, matrix),
        next_inputs_fn=lambda time, outputs, state, sample_ids: (end(sample_ids), sample_ids, state),
        sample_ids_shape=[DEPTH], sample_ids_dtype=tf.float64)
    with pytest.raises(ValueError, match="batch_size accessed before initialize was called"):
        custom.batch_size
    other = seq.InferenceHelper(lambda outputs: tf.matmul(outputs, matrix), [DEPTH], tf.float64, start, end)
    cell, results = cells.BasicRNNCell(UNITS, dtype=tf.float64), []
    for helper in (custom, other):
        decoder = seq.BasicDecoder(cell, helper, tf.zeros([2, UNITS], tf.float64))
        results.append(seq.dynamic_decode(decoder, maximum_iterations=5))
    sess = started(rng)
    (a, s, n), (b, z, m) = sess.run(results)
    assert a.sample_id.shape == (2, n.max(), DEPTH)
    for one, two in ((a.rnn_output, b.rnn_output), (a.sample_id, b.sample_id), (s, z), (n, m)):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(a.sample_id, a.rnn_output @ sess.run(matrix), rtol=1e-12)


# ---------------------------------------------------------------- attention


def np_scores(sess, kind, option, query, keys, scope):
    if kind == "luong":
        score = np.einsum("bu,btu->bt", query, keys)
        return score * value(sess, f"{scope}/attention_g") if option else score
    at = (query @ value(sess, f"{scope}/query_layer/kernel"))[:, None]
    v = value(sess, f"{scope}/attention_v")
    if not option:
        return (v * np.tanh(keys + at)).sum(-1)
    v = value(sess, f"{scope}/attention_g") * v / np.linalg.norm(v)
    return (v * np.tanh(keys + at + value(sess, f"{scope}/attention_b"))).sum(-1)


def mechanism(kind, option, memory, lengths, units=UNITS, monotonic=False, **kwargs):
    cls = getattr(seq, {"luong": "Luong", "bahdanau": "Bahdanau"}[kind] + ("Monotonic" if monotonic else "") + "Attention")
    return cls(units, memory, lengths, dtype=tf.float64, **{{"luong": "scale", "bahdanau": "normalize"}[kind]: option}, **kwargs)


@pytest.mark.parametrize("kind, option", list(itertools.product(["luong", "bahdanau"], [False, True])))
@pytest.mark.parametrize("masked", [False, True])
def test_attention(rng, kind, option, masked):
    memory, query = rng.normal(size=(BATCH, TIME, 3)), rng.normal(size=(BATCH, UNITS))
    lengths = np.array([4, 1, 2])
    attention = mechanism(kind, option, memory, lengths if masked else None)
    alignments, state = attention(tf.constant(query), attention.initial_state(BATCH, tf.float64))
    sess = started(rng)
    own = {"luong": ["attention_g"] * option,
           "bahdanau": ["query_layer/kernel", "attention_v", *["attention_g", "attention_b"] * option]}[kind]
    assert names() == ["memory_layer/kernel", *(f"{kind}_attention/{n}" for n in own)]
    inside = np.arange(TIME) < lengths[:, None] if masked else np.ones((BATCH, TIME), bool)
    values = memory * inside[..., None]
    scores = np_scores(sess, kind, option, query, values @ value(sess, "memory_layer/kernel"), f"{kind}_attention")
    found, following, kept = sess.run([alignments, state, attention.values])
    np.testing.assert_allclose(found, softmax(np.where(inside, scores, -np.inf)), rtol=1e-12)
    np.testing.assert_array_equal(following, found)
    np.testing.assert_array_equal(kept, values)
    assert attention.alignments_size == attention.state_size == TIME and attention.batch_size == BATCH


def test_score_mask_value_and_own_functions(rng):
    memory, query = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, UNITS))
    attention = mechanism("luong", False, memory, [3, 1], score_mask_value=-2.0, probability_fn=lambda score: 2 * score,
                          custom_key_value_fn=lambda keys, values: (keys + 1, values * 3))
    alignments, _ = attention(tf.constant(query), None)
    sess = started(rng)
    values = memory * np.array([[1, 1, 1], [1, 0, 0]])[..., None]
    scores = np.einsum("bu,btu->bt", query, values @ value(sess, "memory_layer/kernel") + 1)
    scores[1, 1:] = -2
    np.testing.assert_allclose(sess.run(alignments), 2 * scores, rtol=1e-12)
    np.testing.assert_allclose(sess.run(attention.values), 3 * values)


def test_hardmax():
    with tf.Session() as sess:
        x = tf.placeholder_with_default([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0]], [None, None])
        assert sess.run(seq.hardmax(x)).tolist() == [[0, 1, 0], [1, 0, 0]]


def np_monotonic(p, previous):
    """Row by row: q_i = (1 - p_{i-1}) q_{i-1} + previous_i."""
    q, out = np.zeros(len(p)), np.zeros_like(p)
    for i in range(p.shape[1]):
        q = (1 - p[:, i - 1] if i else 0) * q + previous[:, i]
        out[:, i] = p[:, i] * q
    return out


def test_monotonic_attention(rng):
    p, previous = rng.uniform(0.05, 0.9, (BATCH, TIME)), softmax(rng.normal(size=(BATCH, TIME)))
    hard = (rng.random((BATCH, TIME)) < 0.5).astype(float)
    one_hot = np.eye(TIME)[[0, 1, 3]]
    with tf.Session() as sess:
        found = sess.run([seq.monotonic_attention(p, previous, "recursive"), seq.monotonic_attention(p, previous, "parallel"),
                          seq.monotonic_attention(hard, one_hot, "hard"), seq.safe_cumprod(tf.constant(p), axis=1, exclusive=True)])
    np.testing.assert_allclose(found[0], np_monotonic(p, previous), rtol=1e-12)
    np.testing.assert_allclose(found[1], np_monotonic(p, previous), rtol=1e-9)
    np.testing.assert_allclose(found[2], np_monotonic(hard, one_hot), rtol=1e-12)
    np.testing.assert_allclose(found[3], np.cumprod(np.concatenate([np.ones((BATCH, 1)), p[:, :-1]], 1), 1), rtol=1e-12)
    with pytest.raises(ValueError, match="mode must be 'recursive', 'parallel', or 'hard'"):
        seq.monotonic_attention(p, previous, "soft")


@pytest.mark.parametrize("kind", ["luong", "bahdanau"])
def test_monotonic_mechanisms(rng, kind):
    memory, query = rng.normal(size=(BATCH, TIME, 3)), rng.normal(size=(BATCH, UNITS))
    attention = mechanism(kind, True, memory, None, monotonic=True, score_bias_init=-0.5, mode="recursive")
    first = attention.initial_state(BATCH, tf.float64)
    alignments, _ = attention(tf.constant(query), first)
    scope = f"{kind}_monotonic_attention"
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert value(sess, f"{scope}/attention_score_bias") == -0.5
    sess = started(rng)
    scores = np_scores(sess, kind, True, query, memory @ value(sess, "memory_layer/kernel"), scope)
    p = 1 / (1 + np.exp(-scores - value(sess, f"{scope}/attention_score_bias")))
    start, found = sess.run([first, alignments])
    np.testing.assert_array_equal(start, np.eye(TIME)[[0] * BATCH])
    np.testing.assert_allclose(found, np_monotonic(p, start), rtol=1e-10)


# ---------------------------------------------------------------- a cell with attention


@pytest.mark.parametrize("layer, out", [(3, True), (None, True), (3, False)])
def test_attention_wrapper(rng, layer, out):
    """Two steps, written out; variables have TF1's names."""
    memory, x = rng.normal(size=(BATCH, TIME, 3)), rng.normal(size=(2, BATCH, DEPTH))
    attention = mechanism("luong", True, memory, [4, 2, 3])
    cell = seq.AttentionWrapper(cells.BasicRNNCell(UNITS), attention, layer, alignment_history=True, output_attention=out)
    state, outputs = cell.zero_state(BATCH, tf.float64), []
    for t in range(2):
        output, state = cell(tf.constant(x[t]), state)
        outputs.append(output)
    assert names() == ["memory_layer/kernel", "attention_wrapper/basic_rnn_cell/kernel", "attention_wrapper/basic_rnn_cell/bias",
                       "attention_wrapper/luong_attention/attention_g", *["attention_wrapper/attention_layer/kernel"] * (layer is not None)]
    assert cell.output_size == (3 if out else UNITS) and cell.state_size.attention == 3
    sess = started(rng)
    kernel, bias = (value(sess, f"attention_wrapper/basic_rnn_cell/{n}") for n in ("kernel", "bias"))
    inside = np.arange(TIME) < np.array([[4], [2], [3]])
    h, seen, history, values = np.zeros((BATCH, UNITS)), np.zeros((BATCH, 3)), [], memory * inside[..., None]
    for t in range(2):
        h = np.tanh(np.concatenate([x[t], seen, h], 1) @ kernel + bias)
        scores = np_scores(sess, "luong", True, h, values @ value(sess, "memory_layer/kernel"), "attention_wrapper/luong_attention")
        history.append(softmax(np.where(inside, scores, -np.inf)))
        seen = np.einsum("bt,btd->bd", history[-1], values)
        if layer:
            seen = np.concatenate([h, seen], 1) @ value(sess, "attention_wrapper/attention_layer/kernel")
        np.testing.assert_allclose(sess.run(outputs[t]), seen if out else h, rtol=1e-11)
    found = sess.run(state._replace(alignment_history=state.alignment_history.stack()))
    assert found.time == 2
    for a, b in ((found.cell_state, h), (found.attention, seen), (found.alignments, history[-1]), (found.attention_state, history[-1]),
                 (found.alignment_history, np.stack(history))):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_several_mechanisms(rng):
    memories = [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 5, 2))]
    mechanisms = [mechanism("luong", True, memories[0], None), mechanism("luong", True, memories[1], None)]
    cell = seq.AttentionWrapper(cells.GRUCell(UNITS), mechanisms, [3, 2], alignment_history=True)
    attention, state = cell(tf.constant(rng.normal(size=(2, DEPTH))), cell.zero_state(2, tf.float64))
    assert [n for n in names() if "gru" not in n] == [
        "memory_layer/kernel", "memory_layer_1/kernel", "attention_wrapper/luong_attention/attention_g",
        "attention_wrapper/attention_layer/kernel", "attention_wrapper/luong_attention_1/attention_g",
        "attention_wrapper/attention_layer_1/kernel"]
    sess = started(rng)
    found, h, parts = sess.run([attention, state.cell_state, state.alignments])
    context = [np.einsum("bt,btd->bd", a, m) for a, m in zip(parts, memories)]
    kernels = [value(sess, f"attention_wrapper/attention_layer{k}/kernel") for k in ("", "_1")]
    expected = [np.concatenate([h, c], 1) @ kernel for kernel, c in zip(kernels, context)]
    np.testing.assert_allclose(found, np.concatenate(expected, 1), rtol=1e-11)
    assert [a.shape for a in parts] == [(2, 3), (2, 5)] and len(state.alignment_history) == 2
    assert cell.output_size == 5


def test_attention_layer_and_function(rng):
    memory = rng.normal(size=(2, 3, 4))
    layer = tf.layers.Dense(7, name="mine", dtype=tf.float64, activation=tf.tanh)
    cell = seq.AttentionWrapper(cells.GRUCell(UNITS), mechanism("luong", False, memory, None), attention_layer=layer)
    assert cell.output_size == 7
    double = lambda m, output, state, layer: (2 * output, *m(output, state))  # noqa: E731
    other = seq.AttentionWrapper(cells.GRUCell(4), mechanism("luong", False, memory, None, units=4), attention_fn=double, name="other")
    found, state = other(tf.zeros([2, DEPTH], tf.float64), other.zero_state(2, tf.float64))
    cell(tf.zeros([2, DEPTH], tf.float64), cell.zero_state(2, tf.float64))
    a, h = started(rng).run([found, state.cell_state])
    np.testing.assert_array_equal(a, 2 * h)


def test_clone(rng):
    cell = seq.AttentionWrapper(cells.BasicLSTMCell(UNITS), mechanism("luong", False, np.zeros((2, 3, 4)), None))
    state = cell.zero_state(2, tf.float64)
    given = cells.LSTMStateTuple(*tf.unstack(rng.normal(size=(2, 2, UNITS))))
    copy = state.clone(cell_state=given)
    assert copy.cell_state == given and copy.alignments is state.alignments and isinstance(copy, seq.AttentionWrapperState)
    with pytest.raises(ValueError, match="expected to be same as the one to clone"):
        state.clone(cell_state=cells.LSTMStateTuple(tf.zeros([2, UNITS + 1]), tf.zeros([2, UNITS])))
    unknown = tf.placeholder(tf.float64, [None, UNITS])
    late = state.clone(cell_state=cells.LSTMStateTuple(unknown, unknown)).cell_state.c
    assert late.shape.as_list() == [2, UNITS]
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match="clone of another shape|not compatible"):
        sess.run(late, {unknown: np.zeros((3, UNITS))})


def test_initial_cell_state(rng):
    given = rng.normal(size=(2, UNITS))
    cell = seq.AttentionWrapper(cells.GRUCell(UNITS), mechanism("luong", False, np.zeros((2, 3, 4)), None),
                                initial_cell_state=tf.constant(given))
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(cell.zero_state(2, tf.float64).cell_state), given)


# ---------------------------------------------------------------- beam search


class Chain(cells.RNNCell):
    """Logits that depend on the id before and the time: log probabilities of a chain, by a table [time, id, id]."""

    def __init__(self, table):
        super().__init__()
        self._table = tf.constant(table)

    state_size = output_size = property(lambda self: 1)

    def call(self, inputs, state):
        rows = tf.gather_nd(self._table, tf.cast(tf.concat([state, inputs], 1), tf.int32))
        return rows, state + 1


def every_sequence(table, start, steps):
    """(score, ids) of all sequences of `steps` ids, ended by END or cut off, best first."""
    found = []

    def go(before, ids, score):
        if len(ids) == steps or ids and ids[-1] == END:
            found.append((score, ids))
            return
        row = log_softmax(table[len(ids), before])
        for k in range(table.shape[-1]):
            go(k, [*ids, k], score + row[k])

    go(start, [], 0.0)
    return sorted(found, key=lambda f: -f[0])


def chain_search(table, starts, width, steps, **kwargs):
    cell, batch = Chain(table), len(starts)
    decoder = seq.BeamSearchDecoder(cell, lambda ids: tf.expand_dims(tf.cast(ids, tf.float64), -1), starts, END,
                                    cell.zero_state(batch * width, tf.float64), width, **kwargs)
    outputs, state, _ = seq.dynamic_decode(decoder, maximum_iterations=steps)
    with tf.Session() as sess:
        return sess.run([outputs.predicted_ids, outputs.beam_search_decoder_output.scores, state])


@pytest.mark.parametrize("penalty", [0.0, 0.9])
def test_wide_beams_find_the_best_of_all_sequences(rng, penalty):
    steps, classes, starts = 3, 3, [0, 2]
    table = rng.normal(size=(steps, classes, classes)) * 1.5
    ids, scores, state = chain_search(table, starts, 18, steps, length_penalty_weight=penalty)
    for b, start in enumerate(starts):
        everything = every_sequence(table, start, steps)
        ranked = sorted(((score / ((5 + _length(found, steps)) / 6) ** penalty, score, found) for score, found in everything),
                        key=lambda f: -f[0])
        for k, (score, log_prob, found) in enumerate(ranked[:8]):
            padded = found + [END] * (steps - len(found))
            assert ids[b, :, k].tolist() == padded
            np.testing.assert_allclose([scores[b, -1, k], state.log_probs[b, k]], [score, log_prob], rtol=1e-10)
            assert state.lengths[b, k] == len(found) and state.finished[b, k] == (found[-1] == END)


def _length(ids, steps):
    """The length that counts for the penalty: in the step that ends a sequence, the end token is not counted yet."""
    return len(ids) - (ids[-1] == END and len(ids) == steps)


def test_one_beam_is_greedy(rng):
    table = rng.normal(size=(4, 5, 5))
    ids, _, state = chain_search(table, [0, 2, 3], 1, 4)
    for b, now in enumerate([0, 2, 3]):
        expected = []
        for t in range(4):
            now = END if END in expected else int(table[t, now].argmax())
            expected.append(now)
        assert ids[b, :, 0].tolist() == expected


def test_narrow_beams_against_numpy(rng):
    """Width 2 of 5 ids: the search written out with lists."""
    table, width, steps = rng.normal(size=(5, 5, 5)), 2, 5
    ids, _, state = chain_search(table, [0], width, steps)
    alive = [(0.0, [0])]
    for t in range(steps):
        new = []
        for score, found in alive:
            if END in found[1:]:
                new.append((score, [*found, END]))
            else:
                new += [(score + p, [*found, k]) for k, p in enumerate(log_softmax(table[t, found[-1]]))]
        alive = sorted(new, key=lambda f: -f[0])[:width]
    np.testing.assert_allclose(state.log_probs[0], [score for score, _ in alive], rtol=1e-10)
    assert ids[0].T.tolist() == [found[1:1 + ids.shape[1]] for _, found in alive]


@pytest.mark.parametrize("coverage", [0.0, 0.4])
def test_beams_with_attention(rng, coverage):
    """The sequences found, decoded again by teacher forcing: the same log-probabilities, alignments, states and scores."""
    width, batch, steps, classes = 3, 2, 4, 5
    memory, lengths, table = rng.normal(size=(batch, 4, 3)), np.array([4, 2]), rng.normal(size=(classes, DEPTH))
    tiled = [seq.tile_batch(tf.constant(x), width) for x in (memory, lengths)]
    cell = seq.AttentionWrapper(cells.GRUCell(UNITS), mechanism("bahdanau", False, *tiled), 4, alignment_history=True)
    layer = tf.layers.Dense(classes, name="out", dtype=tf.float64)
    first = cell.zero_state(batch * width, tf.float64)
    decoder = seq.BeamSearchDecoder(cell, tf.constant(table), [0] * batch, END, first, width, layer, length_penalty_weight=0.5,
                                    coverage_penalty_weight=coverage)
    outputs, state, _ = seq.dynamic_decode(decoder, maximum_iterations=steps)
    taught = tf.placeholder(tf.int32, [batch * width, steps])
    inputs = tf.gather(tf.constant(table), tf.concat([tf.zeros([batch * width, 1], tf.int32), taught[:, :-1]], 1))
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        again, _, _ = seq.dynamic_decode(seq.BasicDecoder(cell, seq.TrainingHelper(inputs, [steps] * batch * width), first, layer))
    again_state = seq.dynamic_decode(seq.BasicDecoder(cell, seq.TrainingHelper(inputs, [steps] * batch * width), first, layer))[1]
    sess = started(rng, 0.8)
    found, last, history = sess.run([outputs, state._replace(cell_state=state.cell_state.cell_state), state.cell_state.alignment_history])
    ids = found.predicted_ids.transpose(0, 2, 1)  # [batch, beam, time]
    assert ids.shape == (batch, width, steps)
    logits, alignments = sess.run([again.rnn_output, again_state.alignment_history.stack()], {taught: ids.reshape(-1, steps)})
    logits = log_softmax(logits).reshape(batch, width, steps, classes)
    alignments, history = (a.reshape(steps, batch, width, 4) for a in (alignments, history))
    for b, k in itertools.product(range(batch), range(width)):
        n = int(last.lengths[b, k])
        assert n == (ids[b, k].tolist() + [END]).index(END) + 1 or n == steps
        log_prob = sum(logits[b, k, t, ids[b, k, t]] for t in range(n))
        np.testing.assert_allclose(last.log_probs[b, k], log_prob, rtol=1e-9)
        np.testing.assert_allclose(history[:n, b, k], alignments[:n, b, k], rtol=1e-8)
        if coverage:
            np.testing.assert_allclose(last.accumulated_attention_probs[b, k], alignments[:n, b, k].sum(0), rtol=1e-8)
    assert (np.diff(found.beam_search_decoder_output.scores[:, -1], axis=-1) <= 0).all()
    assert last.cell_state.shape == (batch, width, UNITS)


def test_coverage_penalty_of_what_has_ended():
    """One step after the end: log-probability / length penalty + weight * sum(log(min(attention, 1)))."""
    table = np.zeros((3, 3))
    cell = seq.AttentionWrapper(cells.BasicRNNCell(2, dtype=tf.float64), mechanism("luong", False, np.ones((2, 2, 2)), None, units=2))
    end = tf.layers.Dense(3, dtype=tf.float64, kernel_initializer=tf.zeros_initializer(),
                          bias_initializer=lambda shape, dtype=None, **_: tf.constant([0.0, 5.0, 0.0], tf.float64))
    decoder = seq.BeamSearchDecoder(cell, tf.constant(table), [0], END, cell.zero_state(2, tf.float64), 2, end,
                                    coverage_penalty_weight=0.5, length_penalty_weight=1.0)
    outputs, state, _ = seq.dynamic_decode(decoder, maximum_iterations=2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        scores, log_probs, attention = sess.run([outputs.beam_search_decoder_output.scores, state.log_probs,
                                                 state.accumulated_attention_probs])
    p = log_softmax(np.array([0.0, 5.0, 0.0]))[END]
    np.testing.assert_allclose(attention[0, 0], [0.5, 0.5])  # no more after the end
    np.testing.assert_allclose(log_probs[0, 0], p, rtol=1e-10)
    np.testing.assert_allclose(scores[0, :, 0], [p / (5 / 6), p / (6 / 6) + 0.5 * 2 * np.log(0.5)], rtol=1e-10)


def np_tree(ids, parents, lengths, end):
    found = np.full_like(ids, end)
    for b, k in itertools.product(range(ids.shape[1]), range(ids.shape[2])):
        beam = k
        for t in reversed(range(min(lengths[b], len(ids)))):
            found[t, b, k], beam = ids[t, b, beam], parents[t, b, beam]
        row = found[:, b, k].tolist()
        found[row.index(end) if end in row else len(row):, b, k] = end
    return found


def test_gather_tree(rng):
    with tf.Session() as sess:
        ids = [[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]], [[-1, -1, -1]]]
        parents = [[[0, 0, 0]], [[0, 1, 1]], [[2, 1, 2]], [[-1, -1, -1]]]
        tree = sess.run(seq.gather_tree(ids, parents, [3], 10))
        assert tree.tolist() == [[[2, 2, 2]], [[6, 5, 6]], [[7, 8, 9]], [[10, 10, 10]]]  # the example of TF's tests
        ids, parents, lengths = rng.integers(0, 4, (5, 3, 2)), rng.integers(0, 2, (5, 3, 2)), [5, 0, 9]
        np.testing.assert_array_equal(sess.run(seq.gather_tree(ids, parents, lengths, 3)), np_tree(ids, parents, lengths, 3))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Saw invalid parent id 2 at \(batch, time, beam\) == \(1, 2, 0\)"):
            wrong = np.zeros((4, 2, 2), int)
            wrong[3, 1, 0] = 2
            sess.run(seq.gather_tree(np.zeros((4, 2, 2), int), wrong, [4, 4], 3))
    for bad in (([[1]], [[1]], [1], 0), ([[[1]]], [[[1, 2]]], [1], 0), ([[[1]]], [[[1]]], [1, 2], 0), ([[[1]]], [[[1]]], [1], [0])):
        with pytest.raises(ValueError, match="hape"):
            seq.gather_tree(*bad)


@pytest.mark.parametrize("flat", [False, True])
def test_gather_tree_from_array(rng, flat):
    """Values that say where they are from follow the ids."""
    time, batch, beams = 4, 2, 3
    parents, lengths = rng.integers(0, beams, (time, batch, beams)), np.array([[4, 3, 4], [2, 2, 1]])
    t = np.arange(time * batch * beams * 2.0).reshape(time, batch, beams, 2)
    own = np.broadcast_to(np.arange(beams), (time, batch, beams))
    source = np_tree(own, parents, lengths.max(1), beams + 1)
    inside = np.arange(time)[:, None, None] < lengths
    source = np.where(inside, source, own)
    expected = np.take_along_axis(t, source[..., None], 2)
    given = t.reshape(time, batch * beams, 2) if flat else t
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(seq.gather_tree_from_array(given, tf.constant(parents, tf.int32), lengths)),
                                      expected.reshape(given.shape))


def test_tile_batch():
    x = np.arange(6.0).reshape(2, 3)
    unknown = tf.placeholder(tf.int32, [None])
    with tf.Session() as sess:
        a, (b, c) = sess.run(seq.tile_batch([tf.constant(x), (unknown, tf.constant([True, False]))], 3), {unknown: [7, 8]})
    np.testing.assert_array_equal(a, np.repeat(x, 3, 0))
    assert b.tolist() == [7, 7, 7, 8, 8, 8] and c.tolist() == [True] * 3 + [False] * 3
    assert seq.tile_batch(x, 2).shape.as_list() == [4, 3]
    for bad in (tf.constant(1.0), tf.placeholder(tf.float32)):
        with pytest.raises(ValueError, match="t must have statically known rank"):
            seq.tile_batch(bad, 2)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("time, batch", [("average", "average"), ("average", None), (None, "average"), (None, None), ("sum", "sum"),
                                         ("sum", None), (None, "sum")])
def test_sequence_loss(rng, time, batch):
    logits, targets = rng.normal(size=(BATCH, TIME, CLASSES)), rng.integers(0, CLASSES, (BATCH, TIME))
    weights = rng.uniform(0.5, 2, (BATCH, TIME)) * (np.arange(TIME) < np.array([[4], [0], [2]]))
    losses = -np.take_along_axis(log_softmax(logits), targets[..., None], -1)[..., 0] * weights
    axes = tuple(k for k, how in enumerate((batch, time)) if how)
    expected = losses
    if axes:
        size = weights.sum(axes) if "average" in (time, batch) else np.count_nonzero(weights, axes)
        expected = np.divide(losses.sum(axes), size, out=np.zeros(np.shape(size)), where=size != 0)
    found = seq.sequence_loss(tf.constant(logits), targets, tf.constant(weights), time == "average", batch == "average", time == "sum",
                              batch == "sum")
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(found), expected, rtol=1e-10)


def test_sequence_loss_with_a_function_of_ones_own(rng):
    logits, targets = rng.normal(size=(2, 3, 4)), rng.integers(0, 4, (2, 3))
    calls = []

    def loss(labels, logits):
        calls.append((labels.shape.as_list(), logits.shape.as_list()))
        return tf.reduce_sum(logits, 1)

    with tf.Session() as sess:
        found = sess.run(seq.sequence_loss(tf.constant(logits), targets, tf.ones([2, 3], tf.float64), softmax_loss_function=loss))
    np.testing.assert_allclose(found, logits.sum() / 6, rtol=1e-12)
    assert calls == [([6], [6, 4])]


def test_sequence_loss_errors():
    logits, targets, weights = tf.zeros([2, 3, 4]), tf.zeros([2, 3], tf.int32), tf.ones([2, 3])
    for bad, message in (((logits[0], targets, weights), "Logits must be a"), ((logits, targets[0], weights), "Targets must be a"),
                         ((logits, targets, weights[0]), "Weights must be a")):
        with pytest.raises(ValueError, match=message):
            seq.sequence_loss(*bad)
    for switches in ((True, False, True, False), (False, True, False, True), (False, True, True, False), (True, False, False, True)):
        with pytest.raises(ValueError, match="cannot be set to True at same time"):
            seq.sequence_loss(logits, targets, weights, *switches)


# ---------------------------------------------------------------- errors


def test_errors_of_decoders(rng):
    cell, state = cells.GRUCell(UNITS), tf.zeros([2, UNITS])
    helper = seq.TrainingHelper(tf.zeros([2, 3, DEPTH]), [3, 3])
    with pytest.raises(TypeError, match="Expected decoder to be type Decoder, but saw"):
        seq.dynamic_decode(cell)
    with pytest.raises(TypeError, match="is not an RNNCell"):
        seq.BasicDecoder(3, helper, state)
    with pytest.raises(TypeError, match="helper must be a Helper, received"):
        seq.BasicDecoder(cell, cell, state)
    with pytest.raises(TypeError, match="output_layer must be a Layer, received"):
        seq.BasicDecoder(cell, helper, state, tf.nn.relu)
    with pytest.raises(ValueError, match="maximum_iterations must be a scalar"):
        seq.dynamic_decode(seq.BasicDecoder(cell, helper, state), maximum_iterations=[3])
    with pytest.raises(ValueError, match="Expected sequence_length to be a vector"):
        seq.TrainingHelper(tf.zeros([2, 3, DEPTH]), 3)
    with pytest.raises(ValueError, match="start_tokens must be a vector"):
        seq.GreedyEmbeddingHelper(tf.zeros([3, 2]), 0, 1)
    with pytest.raises(ValueError, match="end_token must be a scalar"):
        seq.GreedyEmbeddingHelper(tf.zeros([3, 2]), [0], [1])
    with pytest.raises(ValueError, match="sampling_probability must be either a scalar or a vector"):
        seq.ScheduledEmbeddingTrainingHelper(tf.zeros([2, 3, DEPTH]), [3, 3], tf.zeros([4, DEPTH]), [[0.5]])
    with pytest.raises(TypeError, match="next_input_layer must be a Layer"):
        seq.ScheduledOutputTrainingHelper(tf.zeros([2, 3, DEPTH]), [3, 3], 0.5, next_input_layer=tf.nn.relu)


def test_errors_of_attention():
    memory = tf.zeros([2, 3, 4])
    with pytest.raises(ValueError, match="fully defined inner dims"):
        seq.LuongAttention(UNITS, tf.placeholder(tf.float32, [2, None, None]))
    with pytest.raises(TypeError, match="probability_fn must be callable"):
        seq.BahdanauAttention(UNITS, memory, probability_fn=3)
    with pytest.raises(ValueError, match="Incompatible or unknown inner dimensions between query and keys"):
        seq.LuongAttention(UNITS, memory)(tf.zeros([2, UNITS + 1]), None)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be greater than zero"), tf.Session() as sess:
        lengths = tf.placeholder(tf.int32, [2])
        sess.run(seq.hardmax(seq.LuongAttention(4, memory, lengths).values), {lengths: [1, 0]})
    cell, attention = cells.GRUCell(UNITS), seq.LuongAttention(UNITS, memory)
    with pytest.raises(TypeError, match="is not an RNNCell"):
        seq.AttentionWrapper(3, attention)
    for bad in (cell, [attention, cell]):
        with pytest.raises(TypeError, match="AttentionMechanism"):
            seq.AttentionWrapper(cell, bad)
    with pytest.raises(ValueError, match="exactly one integer per attention_mechanism, saw: 2 vs 1"):
        seq.AttentionWrapper(cell, attention, [3, 4])
    with pytest.raises(ValueError, match="Only one of attention_layer_size and attention_layer"):
        seq.AttentionWrapper(cell, attention, 3, attention_layer=tf.layers.Dense(3))
    with pytest.raises(TypeError, match="cell_input_fn must be callable"):
        seq.AttentionWrapper(cell, attention, cell_input_fn=3)
    wrapped = seq.AttentionWrapper(cell, attention)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Non-matching batch sizes between the memory"):
        wrapped.zero_state(3, tf.float32)
    with pytest.raises(TypeError, match="Expected state to be instance of AttentionWrapperState"):
        wrapped(tf.zeros([2, DEPTH]), tf.zeros([2, UNITS]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Non-matching batch sizes between the memory"):
        batch = tf.placeholder(tf.int32, [])
        with tf.Session() as sess:
            sess.run(wrapped.zero_state(batch, tf.float32).cell_state, {batch: 3})


def test_errors_of_beam_search():
    cell, table = cells.GRUCell(UNITS), tf.zeros([4, DEPTH])

    def decoder(start=(0, 0), end=END, state=None, **kwargs):
        return seq.BeamSearchDecoder(cell, table, list(start), end, tf.zeros([6, UNITS]) if state is None else state, 3, **kwargs)

    with pytest.raises(ValueError, match="Perhaps you forgot to create a zero_state"):
        decoder(state=tf.zeros([2, UNITS]))
    with pytest.raises(ValueError, match="start_tokens must be a vector"):
        decoder(start=[[0]])
    with pytest.raises(ValueError, match="end_token must be a scalar"):
        decoder(end=[1])
    with pytest.raises(TypeError, match="output_layer must be a Layer"):
        decoder(output_layer=tf.nn.relu)
    with pytest.raises(ValueError, match="coverage_penalty_weight must be 0.0 if no cell is attentional"):
        seq.dynamic_decode(decoder(coverage_penalty_weight=0.1))
    with pytest.raises(ValueError, match="leave impute_finished False"):
        seq.dynamic_decode(decoder(), impute_finished=True, maximum_iterations=2)


# ---------------------------------------------------------------- legacy


def ids(rng, steps, batch=2, classes=4):
    given = [rng.integers(0, classes, batch) for _ in range(steps)]
    return given, [tf.constant(x, tf.int32) for x in given]


def test_basic_rnn_seq2seq(rng):
    xs, ys = rng.normal(size=(3, 2, DEPTH)), rng.normal(size=(2, 2, DEPTH))
    outputs, state = legacy.basic_rnn_seq2seq(list(tf.unstack(xs)), list(tf.unstack(ys)), cells.BasicRNNCell(UNITS), dtype=tf.float64)
    assert names() == [f"basic_rnn_seq2seq/{part}/basic_rnn_cell/{v}" for part in ("rnn", "rnn_decoder") for v in ("kernel", "bias")]
    sess = started(rng)
    h, expected = np.zeros((2, UNITS)), []
    for part, steps in (("rnn", xs), ("rnn_decoder", ys)):
        kernel, bias = (value(sess, f"basic_rnn_seq2seq/{part}/basic_rnn_cell/{v}") for v in ("kernel", "bias"))
        for x in steps:
            h = np.tanh(np.concatenate([x, h], 1) @ kernel + bias)
            expected.append(h)
    found, last = sess.run([outputs, state])
    np.testing.assert_allclose(found, expected[3:], rtol=1e-12)
    np.testing.assert_allclose(last, h, rtol=1e-12)


def test_tied_rnn_seq2seq(rng):
    xs = list(tf.unstack(rng.normal(size=(2, 2, DEPTH))))
    outputs, _ = legacy.tied_rnn_seq2seq(xs, xs, cells.BasicRNNCell(UNITS), dtype=tf.float64)
    assert names() == [f"combined_tied_rnn_seq2seq/tied_rnn_seq2seq/basic_rnn_cell/{v}" for v in ("kernel", "bias")]
    assert len(outputs) == 2


MODELS = {
    "embedding_rnn_seq2seq": lambda xs, ys, feed: legacy.embedding_rnn_seq2seq(xs, ys, cells.GRUCell(UNITS), 4, 6, 3, feed_previous=feed),
    "embedding_tied_rnn_seq2seq": lambda xs, ys, feed: legacy.embedding_tied_rnn_seq2seq(xs, ys, cells.BasicLSTMCell(UNITS), 4, 3,
                                                                                        feed_previous=feed),
    "embedding_attention_seq2seq": lambda xs, ys, feed: legacy.embedding_attention_seq2seq(
        xs, ys, cells.BasicLSTMCell(UNITS), 4, 6, 3, num_heads=2, feed_previous=feed, initial_state_attention=True),
    "one2many_rnn_seq2seq": lambda xs, ys, feed: legacy.one2many_rnn_seq2seq(
        xs, {"a": ys, "b": ys[:2]}, cells.GRUCell(UNITS), {k: cells.GRUCell(UNITS) for k in "ab"}, 4, {"a": 6, "b": 5}, 3,
        feed_previous=feed)}


@pytest.mark.parametrize("model", MODELS)
def test_feed_previous(rng, model):
    """A bool tensor chooses between the two models that bools make; the first outputs do not depend on it."""
    (_, xs), (_, ys) = ids(rng, 3), ids(rng, 3)
    given, found = tf.placeholder(tf.bool, []), []
    for feed in (given, True, False):
        with tf.variable_scope("m", reuse=tf.AUTO_REUSE):
            found.append(MODELS[model](xs, ys, feed))
    sess = started(rng, 0.5)
    with flags.override(interpret=int(model != "embedding_rnn_seq2seq")):  # one of them compiled: kernels of many steps take long
        a, b = (_flat(sess.run(found[0], {given: feed})) for feed in (True, False))
        c, d = _flat(sess.run(found[1])), _flat(sess.run(found[2]))
    for one, other in ((a, c), (b, d)):
        assert len(one) == len(other)
        for x, y in zip(one, other):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c[0], d[0], rtol=1e-5, atol=1e-6)
    assert any(np.abs(x - y).max() > 1e-3 for x, y in zip(c, d))


def _flat(x):
    if isinstance(x, dict):
        return [z for k in sorted(x) for z in _flat(x[k])]
    return [z for y in x for z in _flat(y)] if isinstance(x, (list, tuple)) else [x]


def test_names_of_embedding_models(rng):
    (_, xs), (_, ys) = ids(rng, 2), ids(rng, 2)
    legacy.embedding_attention_seq2seq(xs, ys, cells.GRUCell(UNITS), 4, 6, 3)
    decoder = "embedding_attention_seq2seq/embedding_attention_decoder/attention_decoder"
    gru = ["gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"]
    assert sorted(names()) == sorted([
        "embedding_attention_seq2seq/rnn/embedding_wrapper/embedding",
        *(f"embedding_attention_seq2seq/rnn/embedding_wrapper/gru_cell/{v}" for v in gru),
        "embedding_attention_seq2seq/embedding_attention_decoder/embedding",
        *(f"{decoder}/{v}" for v in (
            "AttnW_0", "AttnV_0", "kernel", "bias", "Attention_0/kernel", "Attention_0/bias", "AttnOutputProjection/kernel",
            "AttnOutputProjection/bias", "output_projection_wrapper/kernel", "output_projection_wrapper/bias")),
        *(f"{decoder}/output_projection_wrapper/gru_cell/{v}" for v in gru)])


def test_attention_decoder(rng):
    memory, xs, h = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 2, DEPTH)), rng.normal(size=(2, UNITS))
    outputs, state = legacy.attention_decoder(list(tf.unstack(xs)), tf.constant(h), tf.constant(memory), cells.BasicRNNCell(UNITS), 3,
                                              dtype=tf.float64)
    sess = started(rng)
    get = lambda name: value(sess, f"attention_decoder/{name}")  # noqa: E731
    linear = lambda x, scope: x @ get(f"{scope}kernel") + get(f"{scope}bias")  # noqa: E731
    seen = np.zeros((2, 4))
    for t in range(2):
        x = linear(np.concatenate([xs[t], seen], 1), "")
        h = np.tanh(np.concatenate([x, h], 1) @ get("basic_rnn_cell/kernel") + get("basic_rnn_cell/bias"))
        at = linear(h, "Attention_0/")[:, None]
        weights = softmax((get("AttnV_0") * np.tanh(memory @ get("AttnW_0")[0, 0] + at)).sum(-1))
        seen = np.einsum("bt,btd->bd", weights, memory)
        np.testing.assert_allclose(sess.run(outputs[t]), linear(np.concatenate([h, seen], 1), "AttnOutputProjection/"), rtol=1e-11)
    np.testing.assert_allclose(sess.run(state), h, rtol=1e-12)


def test_output_projection_and_gradients_of_what_is_fed_back(rng):
    _, ys = ids(rng, 3)
    w, b = tf.constant(rng.normal(size=(UNITS, 4)), tf.float32), tf.zeros([4])
    found = []
    for update in (True, False):
        with tf.variable_scope("m", reuse=tf.AUTO_REUSE):
            outputs, _ = legacy.embedding_rnn_decoder(ys, tf.zeros([2, UNITS]), cells.GRUCell(UNITS), 4, 3, (w, b), True, update)
        found.append(tf.convert_to_tensor(tf.gradients(tf.add_n([tf.reduce_sum(y) for y in outputs]), tf.trainable_variables()[:1])[0]))
    assert outputs[0].shape.as_list() == [2, UNITS]
    a, b = started(rng).run(found)
    first = sorted(set(sess_ids(ys[0])))
    assert np.abs(a).sum() > 0 and (np.delete(b, first, 0) == 0).all() and np.abs(b[first]).min() > 0
    with pytest.raises(ValueError, match="incompatible"):
        legacy.embedding_rnn_decoder(ys, tf.zeros([2, UNITS]), cells.GRUCell(UNITS), 4, 3, (tf.zeros([UNITS, 5]), tf.zeros([5])))


def sess_ids(t):
    with tf.Session() as sess:
        return sess.run(t).tolist()


def test_legacy_losses_and_buckets(rng):
    logits, (targets, ys) = rng.normal(size=(3, 2, 4)), ids(rng, 3)
    weights = rng.uniform(0.5, 1, (3, 2))
    losses = np.stack([-log_softmax(x)[[0, 1], y] for x, y in zip(logits, targets)]) * weights
    lists = [list(tf.unstack(logits)), ys, list(tf.unstack(weights))]
    each = losses.sum(0) / weights.sum(0)
    with tf.Session() as sess:
        for found, expected in ((legacy.sequence_loss_by_example(*lists), each), (legacy.sequence_loss(*lists), each.mean()),
                                (legacy.sequence_loss_by_example(*lists, average_across_timesteps=False), losses.sum(0)),
                                (legacy.sequence_loss(*lists, False, False), losses.sum())):
            np.testing.assert_allclose(sess.run(found), expected, rtol=1e-10)
    with pytest.raises(ValueError, match="Lengths of logits, weights, and targets must be the same"):
        legacy.sequence_loss_by_example(lists[0], ys[:2], lists[2])
    xs = ids(rng, 3)[1]
    weights = [tf.ones([2])] * 3
    model = lambda a, b: legacy.embedding_rnn_seq2seq(a, b, cells.GRUCell(UNITS), 4, 4, 3)  # noqa: E731
    outputs, costs = legacy.model_with_buckets(xs, ys, ys, weights, [(1, 2), (3, 3)], model)
    _, rows = legacy.model_with_buckets(xs, ys, ys, weights, [(3, 3)], lambda a, b: (outputs[1], None), per_example_loss=True)
    assert [len(o) for o in outputs] == [2, 3]
    assert len(names()) == len(set(names())) and not any("_1" in n for n in names())  # the buckets share them
    sess = started(rng)
    (a, b), row = sess.run([costs, rows[0]])
    assert a.shape == () and row.shape == (2,)
    np.testing.assert_allclose(b, row.mean(), rtol=1e-5)
    for bad in ((xs[:2], ys, ys, weights), (xs, ys, ys[:2], weights), (xs, ys, ys, weights[:2])):
        with pytest.raises(ValueError, match="must be at least that of last bucket"):
            legacy.model_with_buckets(*bad, [(1, 2), (3, 3)], model)


def test_legacy_errors(rng):
    _, xs = ids(rng, 2)
    with pytest.raises(ValueError, match="Must provide at least 1 input"):
        legacy.attention_decoder([], None, tf.zeros([2, 3, 4]), cells.GRUCell(UNITS))
    with pytest.raises(ValueError, match="With less than 1 heads"):
        legacy.attention_decoder([tf.zeros([2, 3])], None, tf.zeros([2, 3, 4]), cells.GRUCell(UNITS), num_heads=0)
    with pytest.raises(ValueError, match=r"Shape\[2\] of attention_states must be known"):
        legacy.attention_decoder([tf.zeros([2, 3])], None, tf.placeholder(tf.float32, [2, 3, None]), cells.GRUCell(UNITS))
    with pytest.raises(TypeError, match="enc_cell is not an RNNCell"):
        legacy.one2many_rnn_seq2seq(xs, {}, 3, {}, 4, {}, 3)
    with pytest.raises(ValueError, match="keys of dec_cells_dict"):
        legacy.one2many_rnn_seq2seq(xs, {"a": xs}, cells.GRUCell(2), {}, 4, {}, 3)
