"""Clusters in one process: specs, servers, device functions, synchronised replicas."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

T = tf.train


@pytest.fixture(autouse=True)
def _interpreted():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def test_cluster_spec():
    spec = T.ClusterSpec({"ps": ["ps0:2222", "ps1:2222"], "worker": {1: "w1:2222", 3: b"w3:2222"}})
    assert spec.jobs == ["ps", "worker"] and spec.num_tasks("ps") == 2 and spec.task_indices("worker") == [1, 3]
    assert spec.task_address("worker", 3) == "w3:2222" and spec.job_tasks("worker") == [None, "w1:2222", None, "w3:2222"]
    assert spec.as_dict() == {"ps": ["ps0:2222", "ps1:2222"], "worker": {1: "w1:2222", 3: "w3:2222"}}
    assert T.ClusterSpec(spec.as_cluster_def()) == spec == T.ClusterSpec(spec) and spec and not T.ClusterSpec({})
    assert spec.as_cluster_def().job[1].tasks[3] == "w3:2222"
    for bad in (3, {"a": 3}, {"a": [3]}, {3: ["x"]}, {"a": {"b": "c"}}):
        with pytest.raises(TypeError):
            T.ClusterSpec(bad)
    for call in (lambda: spec.num_tasks("none"), lambda: spec.task_address("ps", 5)):
        with pytest.raises(ValueError, match="No"):
            call()


def test_servers_share_variables():
    v = tf.Variable(1.0)
    server = T.Server({"worker": ["localhost:1234", "localhost:1235"]}, job_name="worker", task_index=1)
    assert server.target == "grpc://localhost:1235" and server.server_def.cluster.job[0].name == "worker"
    with tf.Session(server.target) as a, tf.Session(server.target) as b:
        a.run(v.initializer)
        b.run(v.assign_add(1.0))
    with tf.Session(server.target) as c:
        assert c.run(v) == 2.0
    with tf.Session(T.Server.create_local_server().target) as d, tf.Session("local") as e:
        for sess in (d, e):
            with pytest.raises(tf.errors.FailedPreconditionError):
                sess.run(v)
    assert T.Server(server.server_def).target == server.target
    with pytest.raises(tf.errors.NotFoundError, match="No session factory"):
        tf.Session("grpc://elsewhere:1")
    for bad in ({"a": ["x"], "b": ["y"]}, {"a": ["x", "y"]}):
        with pytest.raises(ValueError, match="Must specify an explicit"):
            T.Server(bad)


def test_workers_of_one_process():
    """A chief initializes; a worker's session on the same server is ready then."""
    v = tf.Variable(3.0)
    target = T.Server.create_local_server().target
    ready = tf.report_uninitialized_variables()
    manager = T.SessionManager(ready_op=ready, recovery_wait_secs=0.01)
    with pytest.raises(tf.errors.DeadlineExceededError):
        manager.wait_for_session(target, max_wait_secs=0.02)
    chief = manager.prepare_session(target, init_op=v.initializer)
    worker = manager.wait_for_session(target)
    chief.run(v.assign(4.0))
    assert worker.run(v) == 4.0


def test_replica_device_setter():
    cluster = T.ClusterSpec({"ps": ["a", "b"], "worker": ["c"]})
    with tf.device(T.replica_device_setter(cluster=cluster)):
        u, v, w = (tf.Variable(0.0) for _ in range(3))
        x = u + v
    # As TensorFlow 2.21's compat.v1 says.
    assert [t.device for t in (u, v, w)] == ["/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0"] and x.device == "/job:worker"
    with tf.device(T.replica_device_setter(ps_tasks=1, worker_device="/job:worker/task:3/cpu:0", ps_device="/job:ps/cpu:0")):
        v = tf.Variable(0.0)
        with tf.device("/gpu:1"):
            y = v * 2.0
    assert (v.device, y.device) == ("/job:ps/task:0/device:CPU:0", "/job:worker/task:3/device:GPU:1")
    assert T.replica_device_setter() is None and T.replica_device_setter(cluster={"worker": ["c"]}) is None
    with pytest.raises(TypeError, match="callable"):
        T.replica_device_setter(1, ps_strategy=3)


def test_device_spec():
    spec = tf.DeviceSpec.from_string("/job:ps/task:1/cpu:0")
    assert (spec.job, spec.replica, spec.task, spec.device_type, spec.device_index) == ("ps", None, 1, "CPU", 0)
    assert spec.to_string() == "/job:ps/task:1/device:CPU:0"
    assert tf.DeviceSpec(job="w", device_type="gpu").to_string() == "/job:w/device:GPU:*"
    spec.merge_from(tf.DeviceSpec(task=4, device_type="GPU", device_index=2))
    assert spec.to_string() == "/job:ps/task:4/device:GPU:2" and spec == tf.DeviceSpec.from_string(spec.to_string())
    with tf.device(tf.DeviceSpec(job="w", device_type="CPU", device_index=0)), tf.device("gpu:1"):
        assert tf.constant(1.0).device == "/job:w/device:GPU:1"
    for bad in ("/job:a/cpu:0/gpu:0", "/task:x", "//cpu:0:1", "what is this"):
        with pytest.raises(ValueError, match="Malformed device"):
            tf.DeviceSpec.from_string(bad)


@pytest.mark.parametrize("replicas, interpret", [(1, 1), (3, 1), (3, 0)])
def test_sync_replicas(replicas, interpret):
    with flags.override(interpret=interpret):
        w, table = tf.Variable([0.0]), tf.Variable([[1.0], [1.0]])
        x = tf.placeholder(tf.float32, [])
        step = T.get_or_create_global_step()
        optimizer = T.SyncReplicasOptimizer(T.MomentumOptimizer(1.0, 0.5), replicas, 1)
        train = optimizer.minimize(tf.reduce_sum(w) * x + tf.reduce_sum(tf.gather(table, [1])) * x, global_step=step)
        hook = optimizer.make_session_run_hook(is_chief=True)
        assert optimizer.get_chief_queue_runner().create_threads(None) == [] and optimizer.get_slot_names() == ["momentum"]
        both, expected, momentum = tf.tuple([w.read_value(), table.read_value()]), 0.0, 0.0
        hook.begin()
        with tf.Session() as sess:
            with pytest.raises(RuntimeError, match="did not make model ready"):
                hook.after_create_session(sess, None)
            sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            hook.after_create_session(sess, None)
            for k in range(6):
                sess.run(train, {x: float(k)})
                if (k + 1) % replicas == 0:
                    momentum = momentum * 0.5 + float(np.mean(range(k + 1 - replicas, k + 1)))
                    expected -= momentum
                found, rows = sess.run(both)
                assert np.isclose(found[0], expected) and np.allclose(rows, [[1.0], [1.0 + expected]])
            assert sess.run(step) == 6 // replicas


def test_sync_replicas_errors():
    optimizer = T.SyncReplicasOptimizer(T.GradientDescentOptimizer(1.0), 3, 1)
    w = tf.Variable(1.0)
    with pytest.raises(ValueError, match="Global step is required"):
        optimizer.minimize(w * 2.0)
    with pytest.raises(ValueError, match="at least one"):
        optimizer.apply_gradients([])
    for call in (optimizer.get_init_tokens_op, optimizer.get_chief_queue_runner, optimizer.make_session_run_hook(True).begin):
        with pytest.raises(ValueError, match="after apply_gradients|before using the hook"):
            call()
    optimizer.minimize(w * 2.0, global_step=T.get_or_create_global_step())
    with pytest.raises(ValueError, match="Too few tokens"):
        optimizer.get_init_tokens_op(1)
