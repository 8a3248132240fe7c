"""Which device each op runs on.  Decisions only: GPUs are descriptions here, none is asked for anything."""
from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import types as types_module

import numpy as np
import pytest

import graphflow as tf
from graphflow import types
from graphflow.compat import private as device_lib
from graphflow.ops.opdef import REGISTRY, constant
from graphflow.passes import pipeline, specialize
from graphflow.runtime import flow, placement
from graphflow.runtime import places as places_of
from graphflow.runtime.cuda import driver
from graphflow.runtime.plan import Compiled
from graphflow.runtime.devices import HOST, Device, Devices
from graphflow.testing import emulated_gpu

CPU, GPU, GPU1 = (f"{HOST}/device:{name}" for name in ("CPU:0", "GPU:0", "GPU:1"))
ONE = Devices(gpus=(Device("GPU", 0, 0, 1 << 30, "device: 0, name: H200", (9, 0)),))
TWO = Devices(gpus=tuple(Device("GPU", i, i, 1 << 30, f"device: {i}, name: H200", (9, 0)) for i in range(2)))
NONE = Devices(gpus=(), reason="The NVIDIA driver library libcuda.so.1 is not there.")


def placed(*tensors, devices=ONE, soft=False):
    """The devices of some tensors, as "GPU:0"."""
    found = placement.Placement(tf.get_default_graph(), devices, soft)
    names = [found.of(getattr(t, "op", t)).removeprefix(HOST + "/device:") for t in tensors]
    return names[0] if len(names) == 1 else names


def refused(t, devices=ONE):
    with pytest.raises(tf.errors.InvalidArgumentError) as e:
        placement.place([t.op], devices)
    return str(e.value)


# ---------------------------------------------------------------- explicit devices


@pytest.mark.parametrize("text", ["/gpu:0", "/GPU:0", "/device:GPU:0", "/gpu", "/device:GPU:*",
                                  "/job:localhost/replica:0/task:0/device:GPU:0"])
def test_every_spelling_of_a_gpu(text):
    with tf.device(text):
        y = tf.placeholder(tf.float32, [4]) * 2.0
    assert placement.place([y.op], ONE)[y.op] == GPU


def test_devices_nest_and_the_inner_one_wins():
    x = tf.placeholder(tf.float32, [1 << 20])
    with tf.device("/job:localhost"):
        a = tf.exp(x)
        with tf.device("/gpu:1"):
            b = tf.exp(a)
            with tf.device("/cpu:0"):
                c = tf.exp(b)
            with tf.device(None):
                d = tf.exp(c)
    assert placed(a, b, c, d, devices=TWO) == ["GPU:1", "GPU:1", "CPU:0", "GPU:0"]  # nothing is copied from a to b


def test_a_function_chooses():
    with tf.device(lambda op: "/gpu:1" if op.type == "Exp" else "/cpu:0"):
        x = tf.placeholder(tf.float32, [4])
        y = tf.exp(x)
    assert placed(x, y, devices=TWO) == ["CPU:0", "GPU:1"]


def test_a_device_that_is_missing_says_which_there_are_and_why():
    with tf.device("/gpu:0"):
        y = tf.placeholder(tf.float32, [4]) * 2.0
    message = refused(y, NONE)
    for part in ("Cannot assign a device for operation mul: it was explicitly assigned to /device:GPU:0",
                 f"available devices are [ {CPU} ]", "there is no GPU to use: The NVIDIA driver library libcuda.so.1 is not there",
                 "allow_soft_placement=True", __file__):
        assert part in message
    assert placed(y, devices=NONE, soft=True) == "CPU:0"


@pytest.mark.parametrize("text, devices, why", [
    ("/gpu:2", TWO, "there are 2 GPUs"), ("/gpu:1", ONE, "there is 1 GPU"), ("/cpu:1", ONE, "there is 1 CPU, more with"),
    ("/device:TPU:0", ONE, "there are no devices of type TPU"), ("/job:ps/task:3", ONE, "no other job or task"),
    ("/task:1/gpu:0", ONE, "no other job or task")])
def test_other_devices_that_are_missing(text, devices, why):
    with tf.device(text):
        y = tf.placeholder(tf.float32, [4]) * 2.0
    assert why in refused(y, devices)
    assert placed(y, devices=devices, soft=True) == ("GPU:0" if "gpu" in text else "CPU:0")


def test_jobs_of_a_cluster_are_this_process():
    with tf.device("/job:worker/task:2"):
        y = tf.placeholder(tf.float32, [1 << 20]) * 2.0
    found = placement.Placement(tf.get_default_graph(), ONE, cluster=True)
    assert found.of(y.op) == "/job:worker/replica:0/task:2/device:GPU:0"


# ---------------------------------------------------------------- no kernel


@pytest.mark.parametrize("make, why", [
    (lambda x: tf.as_string(x), "strings live in host memory (op AsString of float32, string)"),
    (lambda x: tf.py_func(np.sin, [x], tf.float32), "its effects are the host's (op PyFunc"),
    (lambda x: tf.summary.scalar("s", x[0]), "strings live in host memory"),
])
def test_an_op_without_a_kernel(make, why):
    with tf.device("/gpu:0"):
        y = make(tf.placeholder(tf.float32, [4]))
    message = refused(y)
    for part in (why, f"Cannot assign a device for operation {y.op.name}: Could not satisfy explicit device specification "
                 "'/device:GPU:0' because no supported kernel for GPU devices is available", "tf.device('/cpu:0')",
                 "allow_soft_placement=True"):
        assert part in message
    assert placed(y, soft=True) == "CPU:0"


def test_numbers_that_only_numpy_computes_are_computed_there_with_a_warning():
    """TF1 has GPU kernels for such ops, and programs make their initial values under tf.device('/gpu:0')."""
    with tf.device("/gpu:0"):
        v = tf.Variable(tf.qr(tf.random_normal([100, 100], seed=1))[0])
        tf.qr(tf.ones([3, 2]))
        first = tf.svd(v, compute_uv=False)
        with tf.colocate_with(v):
            beside = tf.svd(v, compute_uv=False)
    made = [op for op in tf.get_default_graph().get_operations() if op.type == "Qr"]
    found = placement.Placement(tf.get_default_graph(), ONE)
    with pytest.warns(UserWarning) as warned:
        assert [found.of(op) for op in (v.op, *made, first.op, beside.op)] == [GPU, CPU, CPU, CPU, CPU]
    assert ["Qr" in str(w.message) for w in warned] == [True, False] and warned[0].filename == __file__
    assert "(Svd) stands under tf.device('/device:GPU:0'), but it is computed by NumPy, on the host" in str(warned[1].message)
    assert placed(v, beside, soft=True) == ["GPU:0", "CPU:0"]


def test_initial_values_are_made_where_variables_are():
    with tf.device("/gpu:0"):
        v = tf.Variable(tf.truncated_normal([100, 100], seed=1))
        w = tf.get_variable("w", [100, 100], initializer=tf.variance_scaling_initializer())
    drawn = [op for op in tf.get_default_graph().get_operations() if op.type == "TruncatedNormal"]
    found = placement.Placement(tf.get_default_graph(), ONE)
    assert [found.of(op) for op in (v.op, w.op, *drawn)] == [GPU] * 4


def test_checks_stay_on_the_host_under_any_device():
    with tf.device("/gpu:0"):
        x = tf.placeholder(tf.float32, [4])
        with tf.control_dependencies([tf.Assert(tf.reduce_all(x > 0), ["text", x])]):
            y = x * 2.0
    g = tf.get_default_graph()
    check = next(op for op in g.get_operations() if op.type == "Assert")
    assert placed(check, y) == ["CPU:0", "GPU:0"]


def test_complex_numbers():
    x = tf.placeholder(tf.complex64, [1 << 20])
    assert placed(tf.exp(x), tf.reduce_sum(x), tf.abs(x)) == ["GPU:0"] * 3
    sums = tf.unsorted_segment_sum(x, tf.zeros([1 << 20], tf.int32), 3)
    assert placement.why_not(sums.op) == "no GPU kernel adds up complex numbers in one place"


def test_objects_of_a_session_are_the_hosts_under_any_device():
    with tf.device("/gpu:0"):
        batch = tf.data.Dataset.from_tensor_slices(np.zeros((1 << 14, 64), np.float32)).batch(1 << 12).make_one_shot_iterator().get_next()
        row = tf.FIFOQueue(3, tf.float32, [1 << 16]).dequeue()
        y, z = tf.exp(batch), tf.exp(row)
    assert placed(batch, row, y, z) == ["CPU:0", "CPU:0", "GPU:0", "GPU:0"]


def test_a_composite_is_what_its_body_is():
    x = tf.placeholder(tf.float32)  # of unknown rank
    y = tf.placeholder(tf.float32, [None, 10])
    assert [placement.why_not(t.op) for t in (tf.nn.softmax(x), tf.nn.softmax(y), tf.reduce_mean(x), tf.argmax(y, 1))] == [None] * 4


# ---------------------------------------------------------------- automatic


def test_the_first_program_of_tf1s_guide():
    a = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape=[2, 3], name="a")
    b = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape=[3, 2], name="b")
    assert placed(a, b, tf.matmul(a, b)) == ["GPU:0"] * 3
    with tf.device("/cpu:0"):
        a = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape=[2, 3])
        b = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], shape=[3, 2])
    assert placed(a, b, tf.matmul(a, b)) == ["CPU:0", "CPU:0", "GPU:0"]


def test_constants_and_feeds_go_where_they_are_read():
    x, y = tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [None, 3])
    c = tf.constant([1.0, 2.0, 3.0])
    z = tf.exp(x) + c
    text = tf.as_string(y)
    both = tf.constant(np.ones(3, np.float32))
    tf.as_string(both), z * both
    assert placed(x, y, c, both, z, text) == ["GPU:0", "CPU:0", "GPU:0", "GPU:0", "GPU:0", "CPU:0"]


def test_a_little_work_between_ops_of_the_cpu_stays_there():
    x = tf.placeholder(tf.string, [8])
    numbers = tf.string_to_number(x)
    little = numbers * 2.0 + 1.0
    tf.as_string(little)
    much = tf.math.bessel_i0e(tf.placeholder(tf.float32, [1 << 20])) * 2.0
    tf.as_string(much)
    weights = tf.get_variable("w", [1 << 20, 8])
    used = tf.string_to_number(x) * 2.0
    tf.as_string(used), used * weights  # it also goes to a GPU
    assert placed(little, much, used) == ["CPU:0", "GPU:0", "GPU:0"]


def test_sizes_are_the_hosts():
    x = tf.placeholder(tf.float32, [None, 3])
    n = tf.shape(x)[0] * 3
    y = tf.reshape(tf.exp(x), [n])
    assert placed(n, y) == ["CPU:0", "GPU:0"]
    count = tf.cast(tf.shape(x)[0], tf.float32)  # data: a mean by hand
    assert placed(tf.reduce_sum(tf.exp(x)) / count, count) == ["GPU:0", "GPU:0"]


def test_without_a_gpu_everything_is_on_the_cpu():
    x = tf.placeholder(tf.float32, [None, 3])
    v = tf.get_variable("v", [3])
    assert placed(x, tf.exp(x) * v, v.op, devices=NONE) == ["CPU:0"] * 3


def test_ops_added_later_join_what_has_been_placed():
    v = tf.get_variable("v", [1000])
    found = placement.Placement(tf.get_default_graph(), ONE)
    assert found.of(v.op) == GPU
    update = v.assign_add(tf.ones([1000]))
    assert found.of(update.op) == GPU and found.why(update.op) == "colocated with v"


# ---------------------------------------------------------------- colocation


def test_a_variable_and_what_changes_it():
    with tf.device("/cpu:0"):
        v = tf.get_variable("v", [1 << 20])
    with tf.device("/gpu:0"):
        loss = tf.reduce_sum(tf.square(v))
        train = tf.train.AdamOptimizer(0.1).minimize(loss)
    g = tf.get_default_graph()
    writes = [op for op in g.get_operations() if op.opdef.effect == "write" and op.inputs[0].op is v.op]
    assert len(writes) >= 2 and train is not None
    assert set(placed(*writes)) == {"CPU:0"} and placed(loss) == "GPU:0"


def test_slots_of_optimizers_follow_their_variables():
    with tf.device("/gpu:0"):
        v = tf.get_variable("v", [1 << 20])
    optimizer = tf.train.AdamOptimizer(0.1)
    optimizer.minimize(tf.reduce_sum(tf.square(v)))
    assert placed(optimizer.get_slot(v, "m").op, v.op) == ["GPU:0", "GPU:0"]


def test_the_shared_read_of_a_variable_is_where_the_variable_is():
    v = tf.get_variable("v", [1 << 20])
    with tf.device("/cpu:0"):
        y = v * 2.0
    z = v + 1.0
    assert placed(y, y.op.inputs[0], z, v.op) == ["CPU:0", "GPU:0", "GPU:0", "GPU:0"]


def test_integers_of_training_steps():
    step = tf.train.get_or_create_global_step()
    x = tf.placeholder(tf.float32, [None, 100])
    w = tf.get_variable("w", [100, 10])
    rate = tf.train.exponential_decay(0.1, step, 100, 0.9)
    train = tf.train.GradientDescentOptimizer(rate).minimize(tf.reduce_sum(tf.matmul(x, w)), global_step=step)
    assert placed(step.op, w.op, rate, train) == ["GPU:0"] * 4


def test_colocate_with():
    a = tf.placeholder(tf.float32, [1 << 20])
    with tf.device("/gpu:1"):
        b = tf.exp(a)
    with tf.device("/cpu:0"), tf.colocate_with(b):
        c = tf.exp(a)
        with tf.colocate_with(a, ignore_existing=True):
            d = tf.exp(a)
    assert placed(b, c, d, devices=TWO) == ["GPU:1", "GPU:1", "GPU:0"]
    assert c.op.colocation_groups() == [b"loc:@" + b.op.name.encode()] and d.op.colocation_groups() == [b"loc:@" + a.op.name.encode()]
    assert a.op.colocation_groups() == [b"loc:@" + a.op.name.encode()]


def test_what_is_colocated_with_an_op_of_the_host_is_there_too():
    words = tf.placeholder(tf.string, [1 << 20])
    with tf.colocate_with(words):
        y = tf.exp(tf.placeholder(tf.float32, [1 << 20]))
    assert placed(words, y) == ["CPU:0", "CPU:0"]


def test_devices_that_do_not_agree():
    with tf.device("/gpu:0"):
        a = tf.exp(tf.placeholder(tf.float32, [4]))
    with tf.colocate_with(a), tf.device("/cpu:0"):
        b = tf.exp(a)
    assert "Cannot colocate nodes 'Exp' and 'Exp_1'" in refused(b)
    assert placed(a, b, soft=True) == ["GPU:0", "GPU:0"]


# ---------------------------------------------------------------- branches and loops


def test_the_body_of_a_loop_is_placed_op_by_op():
    x = tf.placeholder(tf.float32, [None, 100])
    inside = {}

    def body(i, s):
        with tf.device("/cpu:0"):
            inside["asked"] = tf.tanh(s)
        inside["free"] = tf.exp(inside["asked"])
        return i + 1, inside["free"]

    out = tf.while_loop(lambda i, s: i < 10, body, [0, x])
    assert placed(inside["asked"], inside["free"], out[1]) == ["CPU:0", "GPU:0", "GPU:0"]


def test_the_numbers_of_iterations_are_the_hosts_unless_somebody_says_otherwise():
    x, n = tf.placeholder(tf.float32, [None, 100]), tf.reduce_max(tf.placeholder(tf.int32, [1 << 20]))
    for device, there in (("", "CPU:0"), ("/gpu:0", "GPU:0")):
        with tf.device(device):
            i, y = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, tf.exp(s)), [0, x])
        ask, work = i.op.attrs["regions"]
        assert placed(ask.results[0], ask.params[0], work.params[0], work.results[0]) == [there] * 4
        assert placed(work.params[1], work.results[1], y, n) == ["GPU:0"] * 4


def test_a_graph_that_is_placed_while_a_loop_is_being_made():
    x = tf.placeholder(tf.float32, [None, 100])
    found = placement.Placement(tf.get_default_graph(), ONE)

    def body(i, s):
        assert found.of(tf.exp(s).op) == GPU
        return i + 1, tf.exp(s)

    _, y = tf.while_loop(lambda i, s: i < 10, body, [0, x])
    assert found.of(y.op) == GPU


def test_a_branch_of_strings():
    p = tf.placeholder(tf.bool, [])
    words = tf.placeholder(tf.string, [3])
    y = tf.cond(p, lambda: tf.string_join([words, words]), lambda: words)
    assert placed(y, p) == ["CPU:0", "CPU:0"]


# ---------------------------------------------------------------- programs


def program(fetches, feeds=None, targets=()):
    feeds = feeds or {}
    request = specialize.Specializer(fetches, list(targets), list(feeds))
    shapes = {("feed", t): a.shape for t, a in feeds.items()}
    stage = request.stage(lambda key: shapes[key] if key in shapes else tuple(key[1].outputs[0].sizes), lambda key: feeds[key[1]], {},
                          set())
    with types.recording_guards():
        return pipeline.run(stage.program)


def of(program, devices=ONE, soft=False):
    found = placement.Placement(tf.get_default_graph(), devices, soft)
    found.check(tf.get_default_graph().get_operations())
    return placement.of_program(program, found)


def test_a_program_follows_its_users_devices():
    x = tf.placeholder(tf.float32, [256, 256])
    with tf.device("/gpu:1"):
        a = tf.nn.softmax(x)
    with tf.device("/cpu:0"):
        b = tf.matmul(a, a)
    c = tf.exp(b)
    p = program([c], {x: np.zeros((256, 256), np.float32)})
    places = of(p, TWO)
    assert {places[op] for op in p.ops() if "Softmax" in op.name} == {"GPU:1"}
    assert {places[op] for op in p.ops() if "MatMul" in op.name} == {"CPU"} and places[p.outputs[0].op] == "GPU:0"
    assert places[p.inputs[0][2].op] == "GPU:1"
    assert set(of(p, NONE, soft=True).values()) == {"CPU"}


def test_variables_of_a_program_are_where_the_session_has_them():
    x = tf.placeholder(tf.float32, [32, 100])
    with tf.device("/cpu:0"):
        table = tf.get_variable("table", [100, 100])
    w = tf.get_variable("w", [100, 10])
    loss = tf.reduce_sum(tf.nn.relu(tf.matmul(tf.matmul(x, table), w)))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    p = program([loss], {x: np.zeros((32, 100), np.float32)}, [train])
    places = of(p)
    where = {what.name: places[t.op] for kind, what, t in p.inputs if kind == "variable"}
    assert where == {"table": "CPU", "w": "GPU:0"}
    assert {places[op] for op in p.ops() if op.type == "MatMul"} == {"GPU:0"}


def test_what_a_loop_counts_is_the_hosts_and_the_rest_is_not():
    x = tf.placeholder(tf.float32, [64, 64])
    n = tf.placeholder(tf.int32, [])
    with tf.device("/gpu:0"):  # TF1 keeps these integers in host memory, too
        i, y = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, tf.tanh(tf.matmul(s, s)) * tf.cast(i, tf.float32)), [0, x])
    p = program([y], {x: np.zeros((64, 64), np.float32), n: np.array(5, np.int32)})
    places = of(p)
    loop = next(op for op in p.ops() if op.type == "Loop")
    body = loop.attrs["body"]
    by_type = {op.type: places[op] for op in body.ops()}
    assert by_type["MatMul"] == by_type["Tanh"] == "GPU:0" and by_type["Add"] == "CPU" and places[loop] == "GPU:0"
    assert {places[op] for op in loop.attrs["cond"].ops()} == {"CPU"}
    assert {(t.dtype.name, places[t.op]) for kind, _, t in body.inputs if kind == "variable"} == {("int32", "CPU"), ("float32", "GPU:0")}


def test_a_program_inside_a_loop_is_placed_like_the_loop():
    x = tf.placeholder(tf.float32, [64, 64])
    n = tf.placeholder(tf.int32, [])
    _, y = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, tf.while_loop(lambda j, _: j < n, lambda j, r: (j + 1, tf.tanh(r @ s)),
                                                                               [0, s])[1]), [0, x])
    p = program([y], {x: np.zeros((64, 64), np.float32), n: np.array(5, np.int32)})
    found = placement.Placement(tf.get_default_graph(), ONE)
    places = placement.of_program(p, found)
    body = next(op for op in p.ops() if op.type == "Loop").attrs["body"]
    rebuilt = flow.prepared(body)  # as a plan does it: initial values of the loop inside get memory of their own
    alone = found.on_gpus(rebuilt)
    assert rebuilt is not body
    for op in rebuilt.ops():
        expected = places[op] != "CPU" if op in places else op.type == "Loop" or op.outputs[0].dtype is tf.float32
        assert (op in alone) == expected, op


def test_a_loop_that_ends_when_numbers_are_small_decides_on_the_gpu():
    x = tf.placeholder(tf.float32, [64, 64])
    y = tf.while_loop(lambda s: tf.reduce_sum(s) > 1.0, lambda s: s * 0.5, [x])
    p = program([y], {x: np.zeros((64, 64), np.float32)})
    places = of(p)
    loop = next(op for op in p.ops() if op.type == "Loop")
    assert {places[op] for op in loop.attrs["body"].ops()} == {"GPU:0"}
    assert {places[op] for op in loop.attrs["cond"].ops() if op.type == "Sum"} == {"GPU:0"}


def copies(p, places):
    """What is computed on one device and read on another; constants and what follows from shapes are made on both."""
    reads = places_of.view_of_program(p).reads
    free = ("Const", "Static", "Sized")
    return {t.op.name for t, op, how in reads if how == "data" and places[t.op] != places[op] and t.op.type not in free
            and (t.known is None or t.op.type == "StandIn")}


def test_training_steps_copy_nothing_but_feeds_and_results():
    x, y = tf.placeholder(tf.float32, [None, 28, 28, 1]), tf.placeholder(tf.int64, [None])
    h = tf.layers.max_pooling2d(tf.layers.batch_normalization(tf.layers.conv2d(x, 8, 3), training=True), 2, 2)
    h = tf.layers.dropout(tf.layers.dense(tf.layers.flatten(h), 64, tf.nn.relu), 0.5, training=True)
    logits = tf.layers.dense(h, 10)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    step = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(1e-3, step, 100, 0.9)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train = tf.train.AdamOptimizer(rate).minimize(loss, global_step=step)
    right = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), y), tf.float32))
    p = program([loss, right, step], {x: np.zeros((4, 28, 28, 1), np.float32), y: np.zeros(4, np.int64)}, [train])
    places = of(p)
    assert copies(p, places) == set() and all(places[t.op] == "GPU:0" for _, _, t in p.inputs)


def test_a_recurrent_network_copies_the_number_of_its_iteration():
    x, length = tf.placeholder(tf.float32, [None, 20, 16]), tf.placeholder(tf.int32, [None])
    out, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(32), x, sequence_length=length, dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(out))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    p = program([loss], {x: np.zeros((8, 20, 16), np.float32), length: np.full(8, 20, np.int32)}, [train])
    found = copies(p, of(p))
    loops = [op for op in p.ops() if op.type == "Loop"]
    counters = {t.op.name for op in loops for kind, _, t in op.attrs["body"].inputs if kind == "variable" and t.sizes == ()}
    assert len(loops) == 2 and found <= counters | {t.op.name for _, _, t in p.inputs}


def test_every_op_of_a_program_has_a_place():
    x = tf.placeholder(tf.float32, [1 << 16, 16])
    p0 = tf.placeholder(tf.bool, [])
    y = tf.cond(p0, lambda: tf.math.bessel_i0e(x[:, :1]), lambda: tf.exp(x[:, :1]) + tf.random_uniform([1 << 16, 1]))
    p = program([y], {x: np.zeros((1 << 16, 16), np.float32), p0: np.array(True)})
    places = of(p)
    inner = [op for op in p.ops() if op.type == "Branch" for b in op.attrs["branches"] for op in b.ops()]
    assert set(p.ops()) | set(inner) <= set(places) and set(places.values()) == {"CPU", "GPU:0"}
    assert {places[op] for op in inner if op.type == "BesselI0e"} == {"CPU"}


# ---------------------------------------------------------------- every op


for _module in pkgutil.iter_modules(tf.ops.__path__, "graphflow.ops."):
    importlib.import_module(_module.name)
for _late in ("ctc_ops", "spectral", "special_math", "sets", "quantization", "image_boxes", "morphology"):
    importlib.import_module(f"graphflow.{_late}")


# Ops that NumPy computes on the host, those on strings, files and objects of a session left out.  An op that gets a kernel leaves the list.
HOSTED = set("""
    Bincount Where Unique UniqueWithCounts ListDiff
    DynamicPartition DynamicStitch SparseOrder SparseRows EditDistance FirstOfEqual SparseCross
    GatherTree CTCLabels CTCUniqueLabels CollapseRepeated CTCGreedyDecoder CTCBeamSearchDecoder FFT IFFT RFFT IRFFT DCT BesselI0e
    BesselI1e NextAfter SetOperation SetSize NonMaxSuppressionV5 CombinedNonMaxSuppression DrawBoundingBoxesV2
    RandomShuffle RandomGamma RandomPoissonV2 FractionalSequence MatrixSolveLs SelfAdjointEigV2 Svd Qr MatrixExponential
    MatrixSquareRoot Lu TridiagonalSolve MatrixLogarithm PyFuncStateless
""".split())


def _reason(op):
    """The answer for an op on floats, without building it."""
    class Fake:
        opdef, attrs, inputs, outputs = op, {}, (), ()

    return placement.why_not(Fake) if op.family not in ("composite", "attention") else None  # those depend on the op's inputs


def test_every_op_either_has_a_kernel_or_is_the_hosts_for_a_reason():
    reasons = {name: _reason(op) for name, op in REGISTRY.items()}
    numpys = {name for name, why in reasons.items() if why == "it is computed by NumPy, on the host"}
    assert HOSTED - set(REGISTRY) == set() and HOSTED <= numpys
    for name in numpys - HOSTED:  # the rest is about strings, files or records
        op = REGISTRY[name]
        assert op.family == "host" or op.family in ("special",), name
    for name, op in REGISTRY.items():
        if op._lower or op._fold or op._scatter or op.family in ("scan", "constant", "input", "state", "control", "composite"):
            assert reasons[name] is None or op.effect in ("host", "outside"), name


def _composites():
    sys.path.insert(0, __file__.rpartition("/")[0])
    import test_ops

    for name, op in REGISTRY.items():
        if op.family == "composite" and name not in test_ops.EXEMPT:
            yield from ((op, args, attrs) for args, attrs in test_ops.cases(op)[:2])


def test_no_composite_has_a_part_that_only_the_host_computes():
    import test_ops

    seen = set()
    for op, args, attrs in _composites():
        arrays = [np.asarray(a) for a in args]
        dtypes = [types.bfloat16 if test_ops.dtype_of(a) is types.bfloat16 else None for a in args]
        out = op(*map(constant, arrays, dtypes), **attrs)
        assert placement.why_not((out[0] if isinstance(out, list) else out).op) is None, op.name
        seen.add(op.type)
    assert len(seen) > 20


def test_every_op_that_is_placed_on_a_gpu_has_launches_there():
    """Two calls of each op, through the compiler: where placement promises a kernel, code generation makes one."""
    import test_ops

    compiled = set()
    for op in list(REGISTRY.values()):
        if op.type in test_ops.EXEMPT or op.family in test_ops.EXEMPT_FAMILIES:
            continue
        found = test_ops.cases(op)
        for args, attrs in (found[0], found[-1]) if found else ():
            with tf.Graph().as_default() as g:
                feeds = {}
                for i, a in enumerate(args):
                    fed = op.param_name(i) not in op.static and test_ops.dtype_of(a).kind != "s"
                    t = tf.placeholder(test_ops.dtype_of(a), np.shape(a)) if fed else constant(a)
                    feeds[t] = np.asarray(a) if fed else None
                out = op(*feeds, **attrs)
                outs = out if isinstance(out, list) else [out]
                if placement.why_not(outs[0].op) is not None:
                    continue
                p = program(outs, {t: a for t, a in feeds.items() if a is not None})
                with types.recording_guards():
                    units = Compiled(p, place=placement.Placement(g, ONE).on_gpus).units
                assert all(u.launch is not None for u in units), (op.type, attrs, [u.cluster.kind for u in units])
                compiled.update([op.type] * bool(units))
    assert len(compiled) > 150


# ---------------------------------------------------------------- sessions


def test_hard_placement_says_why_there_is_no_gpu():
    with tf.device("/gpu:0"):
        y = tf.constant([1.0, 2.0]) * 2.0
    config = tf.ConfigProto(device_count={"GPU": 0})
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"there is no GPU to use: the session's config hides the GPUs"):
        tf.Session(config=config).run(y)
    soft = tf.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)
    np.testing.assert_array_equal(tf.Session(config=soft).run(y), [2.0, 4.0])


def test_the_log_has_every_op_once(capfd):
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.device("/gpu:0"):
        y = tf.while_loop(lambda s: tf.reduce_sum(s) < 10.0, lambda s: tf.multiply(s, 2.0, name="inner"), [x])
    config = tf.ConfigProto(log_device_placement=True, allow_soft_placement=True, device_count={"GPU": 0})
    with tf.Session(config=config) as sess:
        for _ in range(2):
            sess.run([y, x + 1.0], {x: [1.0, 2.0]})
        sess.run(y, {x: [1.0, 2.0]})
    log = capfd.readouterr().err.splitlines()
    assert log[0] == "Device mapping: no known devices."
    assert len(log) == len(set(log)) and f"x: (Placeholder): {CPU}" in log
    assert any(line.endswith(f"inner: (Mul): {CPU}") for line in log)


def test_a_session_has_cpus_as_many_as_asked_for():
    with tf.device("/cpu:1"):
        y = tf.constant(1.0) + 1.0
    with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2, "GPU": 0})) as sess:
        assert [d.name for d in sess.list_devices()] == [CPU, CPU.replace("CPU:0", "CPU:1")]
        assert sess.run(y) == 2.0 and all(d.memory_limit_bytes > 1 << 28 and d.incarnation for d in sess.list_devices())
    with pytest.raises(tf.errors.InvalidArgumentError, match="there is 1 CPU, more with"):
        tf.Session().run(y)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"device_count\['GPU'\] must be a number of devices"):
        tf.Session(config=tf.ConfigProto(device_count={"GPU": -1})).run(tf.constant(1.0))


def test_making_a_session_asks_no_driver():
    code = ("import graphflow as tf, sys\nx = tf.constant(1.0)\ns = tf.Session()\n"
            "assert 'graphflow.runtime.cuda.driver' not in sys.modules and 'ctypes' not in dir(s)\n")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- devices


@pytest.fixture
def machine():
    """Two GPUs that can be used, and one that is too old, behind a driver that only describes them."""
    gpus = [driver.Properties("H200", (9, 0), 140 << 30, 132, "0000:1b:00.0"), driver.Properties("V100", (7, 0), 16 << 30, 80),
            driver.Properties("A100", (8, 0), 80 << 30, 108, "0000:3c:00.0")]
    with driver.installed(types_module.SimpleNamespace(name="described", count=lambda: len(gpus), properties=gpus.__getitem__)):
        yield gpus


def names(**options):
    config = tf.ConfigProto(device_count=options.pop("device_count", {}), gpu_options=tf.GPUOptions(**options))
    return [(d.name.removeprefix(HOST + "/device:"), d.physical_device_desc.split(",")[0], d.memory_limit_bytes >> 30)
            for d in tf.Session(graph=tf.Graph(), config=config).list_devices()[1:]]


def test_the_gpus_of_a_machine(machine):
    assert names() == [("GPU:0", "device: 0", 140), ("GPU:1", "device: 2", 80)]
    assert names(visible_device_list="2,0") == [("GPU:0", "device: 2", 80), ("GPU:1", "device: 0", 140)]
    assert names(per_process_gpu_memory_fraction=0.5, device_count={"GPU": 1}) == [("GPU:0", "device: 0", 70)]
    assert names(device_count={"GPU": 0}) == []
    found = device_lib.list_local_devices()
    assert [d.device_type for d in found] == ["CPU", "GPU", "GPU"] and found[1].memory_limit == 140 << 30
    assert found[1].physical_device_desc == "device: 0, name: H200, pci bus id: 0000:1b:00.0, compute capability: 9.0"
    assert len({d.incarnation for d in found}) == 3 and found[1].incarnation == tf.Session().list_devices()[1].incarnation
    assert tf.test.gpu_device_name() == "/device:GPU:0" and tf.test.is_gpu_available() and tf.test.is_built_with_cuda()
    assert tf.test.is_gpu_available(min_cuda_compute_capability=(9, 0))
    assert not tf.test.is_gpu_available(min_cuda_compute_capability=(10, 0))


@pytest.mark.parametrize("text, message", [
    ("0,x", "Could not parse entry in 'visible_device_list': 'x'"), ("0,0", "duplicate entry: '0,0'"),
    ("1", r"invalid GPU id '1'; the GPUs that can be used are \[0, 2\]. Device 1 \(V100\) has compute")])
def test_lists_of_gpus_that_are_none(machine, text, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        names(visible_device_list=text)


def test_gpus_that_cannot_be_used_say_why(machine):
    machine[:] = machine[1:2]
    with tf.device("/gpu:0"):
        y = tf.constant([1.0, 2.0]) * 2.0
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"there is no GPU to use: Device 0 \(V100\) has compute capability 7.0"):
        tf.Session().run(y)
    assert not tf.test.is_gpu_available() and tf.test.gpu_device_name() == ""


def test_the_log_begins_with_the_gpus(machine, capfd):
    tf.Session(config=tf.ConfigProto(log_device_placement=True)).close()
    assert capfd.readouterr().err.splitlines() == [
        "Device mapping:", f"{GPU} -> device: 0, name: H200, pci bus id: 0000:1b:00.0, compute capability: 9.0",
        f"{GPU1} -> device: 2, name: A100, pci bus id: 0000:3c:00.0, compute capability: 8.0"]


def test_a_machine_without_a_gpu_says_what_is_missing():
    """Without a driver this is the driver's own sentence; where there is a GPU, nothing is missing."""
    found = Devices()
    assert bool(found.gpus) != bool(found.reason)
    assert found.gpus or "NVIDIA" in found.reason or "GPU" in found.reason


def test_the_devices_of_sessions_without_a_config(machine, monkeypatch):
    monkeypatch.setattr(sys.modules["graphflow.config"], "_default", None)
    found = tf.config.experimental.list_physical_devices("GPU")
    assert [d.name for d in found] == ["/physical_device:GPU:0", "/physical_device:GPU:2"] and found[0].device_type == "GPU"
    for d in found:
        tf.config.experimental.set_memory_growth(d, True)
    tf.config.experimental.set_visible_devices(found[1:], "GPU")
    tf.config.set_soft_device_placement(True)
    assert tf.config.experimental.get_visible_devices("GPU") == found[1:] and tf.config.get_soft_device_placement()
    assert [d.name for d in tf.config.experimental.list_logical_devices("GPU")] == ["/device:GPU:0"]
    with tf.device("/gpu:5"):
        y = tf.exp(tf.placeholder(tf.float32, [1 << 20]))
    sess = tf.Session()
    assert sess.placement.of(y.op) == GPU and sess.list_devices()[1].physical_device_desc.startswith("device: 2, name: A100")
    assert [d.name for d in tf.Session(config=tf.ConfigProto()).list_devices()] == [CPU, GPU, GPU1]  # it says what it wants itself
    tf.config.experimental.set_visible_devices([], "GPU")
    assert [d.name for d in tf.Session().list_devices()] == [CPU]
    with pytest.raises(ValueError, match="Unrecognized device"):
        tf.config.experimental.set_memory_growth(tf.config.PhysicalDevice("/physical_device:GPU:7", "GPU"), True)
    with pytest.raises(tf.errors.UnimplementedError, match="per_process_gpu_memory_fraction"):
        tf.config.experimental.set_virtual_device_configuration(found[0], [])


def test_equal_ops_on_two_devices_stay_two():
    x = tf.placeholder(tf.float32, [256, 256])
    with tf.device("/gpu:0"):
        a = tf.matmul(x, x)
    with tf.device("/cpu:0"):
        b = tf.matmul(x, x)
    p = program([a, b], {x: np.zeros((256, 256), np.float32)})
    assert [of(p)[t.op] for t in p.outputs] == ["GPU:0", "CPU"]


def test_graph_files_keep_colocation():
    with tf.device("/gpu:1"):
        a = tf.random_normal([1 << 20], name="a")
    with tf.colocate_with(a):
        tf.exp(tf.ones([1 << 20]), name="b")
    text = tf.get_default_graph().as_graph_def().to_json()
    with tf.Graph().as_default():
        b, = tf.import_graph_def(tf.GraphDef.from_json(text), return_elements=["b"])
        assert b.colocation_groups() == [b"loc:@import/a"] and placed(b, devices=TWO) == "GPU:1"
    with tf.Graph().as_default(), tf.device("/gpu:0"):  # what is imported has the device around, where it has none
        c, = tf.import_graph_def(tf.GraphDef.from_json(text), return_elements=["a"])
        assert c.device == "/device:GPU:1"


# ---------------------------------------------------------------- on an emulated GPU


def _mixed():
    """A training step whose parts alternate between devices, with a loop, a branch, and an op that only NumPy computes."""
    x = tf.placeholder(tf.float32, [None, 12], name="x")
    with tf.device("/cpu:0"):
        table = tf.get_variable("table", [12, 8], initializer=tf.random_uniform_initializer(-1, 1, seed=1))
        h = tf.tanh(tf.matmul(x, table))
    with tf.device("/gpu:0"):
        w = tf.get_variable("w", [8, 8], initializer=tf.random_uniform_initializer(-1, 1, seed=2))
        _, h = tf.while_loop(lambda i, _: i < 3, lambda i, s: (i + 1, tf.tanh(tf.matmul(s, w))), [0, h])
    best = tf.math.bessel_i0e(h[:, :3])
    picked = tf.cond(tf.reduce_sum(h) > 1e9, lambda: best * 2.0, lambda: best - h[:, :3])
    loss = tf.reduce_mean(tf.square(picked))
    step = tf.train.get_or_create_global_step()
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=step)
    return x, [loss, picked, step], train, [table, w]


def _trained(soft):
    x, fetches, train, variables = _mixed()
    data = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=soft)) as sess:
        sess.run(tf.global_variables_initializer())
        found = [sess.run([*fetches, train], {x: data})[:-1] for _ in range(3)]
        return [*[np.asarray(v) for row in found for v in row], *sess.run(variables)], {sess.placement.of(v.op) for v in variables}


def test_mixed_devices_compute_what_the_cpu_computes():
    with emulated_gpu() as gpu:
        there, homes = _trained(False)
        assert homes == {CPU, GPU} and gpu.calls["launch"] > 10 and gpu.calls["copy_out"] > 3
    tf.reset_default_graph()
    here, homes = _trained(True)
    assert homes == {CPU} or Devices().gpus
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
