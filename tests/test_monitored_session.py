"""Monitored sessions, their hooks, the Supervisor: when things happen, and what is on the disk afterwards."""
from __future__ import annotations

import logging
import os
import time

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


def counted():
    """(loss, an op that adds 1 to w and to the global step)."""
    step = T.get_or_create_global_step()
    w = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    loss = tf.identity(10.0 - w, name="loss")
    return loss, T.GradientDescentOptimizer(1.0).minimize(loss, global_step=step)


class Record(T.SessionRunHook):
    def __init__(self):
        self.calls = []

    def begin(self):
        self.calls.append("begin")

    def after_create_session(self, session, coord):
        self.calls.append("made" if not coord.should_stop() else "stopped")

    def before_run(self, run_context):
        self.calls.append("before")
        assert run_context.original_args.fetches is not None
        return T.SessionRunArgs({"n": "global_step:0"})

    def after_run(self, run_context, run_values):
        self.calls.append(int(run_values.results["n"]))

    def end(self, session):
        self.calls.append("end")


def test_the_order_of_calls():
    _, train = counted()
    record = Record()
    with T.MonitoredSession(hooks=[record]) as sess:
        assert tf.get_default_graph().finalized
        assert sess.run(train) is None and sess.run("w:0") == 1.0
        assert sess.graph is tf.get_default_graph()
    assert record.calls == ["begin", "made", "before", 1, "before", 1, "end"]
    assert not tf.get_default_graph().finalized
    assert sess.should_stop()
    with pytest.raises(RuntimeError, match="already closed"):
        sess.run(train)


@pytest.mark.parametrize("given", [{"last_step": 4}, {"num_steps": 4}])
def test_stop_at_step(given):
    _, train = counted()
    runs = 0
    with T.MonitoredSession(hooks=[T.StopAtStepHook(**given)]) as sess:
        while not sess.should_stop():
            sess.run(train)
            runs += 1
        with pytest.raises(RuntimeError, match="should_stop requested"):
            sess.run(train)
    assert runs == 4


def test_arguments_of_hooks():
    for kind, bad in ((T.StopAtStepHook, {}), (T.StopAtStepHook, {"num_steps": 1, "last_step": 1}),
                      (T.LoggingTensorHook, {"tensors": []}), (T.LoggingTensorHook, {"tensors": [], "every_n_iter": 0}),
                      (T.LoggingTensorHook, {"tensors": [], "every_n_iter": 1, "every_n_secs": 1}),
                      (T.SecondOrStepTimer, {}), (T.SecondOrStepTimer, {"every_secs": 1, "every_steps": 1}),
                      (T.CheckpointSaverHook, {"checkpoint_dir": "x"}), (T.StepCounterHook, {"every_n_steps": 1, "every_n_secs": 1}),
                      (T.CheckpointSaverHook, {"checkpoint_dir": "x", "save_secs": 1, "saver": 1, "scaffold": 1}),
                      (T.SummarySaverHook, {"save_steps": 1}), (T.ProfilerHook, {})):
        with pytest.raises(ValueError):
            kind(**bad)
    with pytest.raises(RuntimeError, match="Global step should be created"):
        T.MonitoredSession(hooks=[T.StopAtStepHook(last_step=3)])


def test_timer():
    timer = T.SecondOrStepTimer(every_steps=3)
    assert timer.should_trigger_for_step(1) and timer.update_last_triggered_step(1) == (None, None)
    assert [timer.should_trigger_for_step(n) for n in (1, 3, 4, 9)] == [False, False, True, True]
    assert timer.update_last_triggered_step(5)[1] == 4 and timer.last_triggered_step() == 5
    timer.reset()
    assert timer.should_trigger_for_step(5)


def test_nan():
    x = tf.placeholder(tf.float32, [])
    with T.MonitoredSession(hooks=[T.NanTensorHook(x, fail_on_nan_loss=False)]) as sess:
        sess.run(x, {x: 1.0})
        sess.run(x, {x: np.nan})
        assert sess.should_stop()
    with pytest.raises(T.NanLossDuringTrainingError, match="NaN loss during training"):
        with T.MonitoredSession(hooks=[T.NanTensorHook(x)]) as sess:
            sess.run(x, {x: np.nan})


def test_logging():
    loss, train = counted()
    tf.logging.set_verbosity(tf.logging.INFO)
    logger, lines = logging.getLogger("tensorflow"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    try:
        hooks = [T.LoggingTensorHook({"loss": "loss", "step": "global_step"}, every_n_iter=2),
                 T.LoggingTensorHook([loss], at_end=True),
                 T.LoggingTensorHook(["loss:0"], every_n_iter=100, formatter=lambda v: f"<{v['loss:0']}>")]
        with T.MonitoredSession(hooks=hooks) as sess:
            for _ in range(3):
                sess.run(train)
    finally:
        logger.removeHandler(handler)
        tf.logging.set_verbosity(tf.logging.WARN)
    assert lines[-4] == "loss = 10.0, step = 1" and lines[-3] == "<10.0>"
    assert lines[-2].startswith("loss = 8.0, step = 3 (") and lines[-1] == "loss:0 = 7.0"


def test_feeds_of_hooks():
    x, y = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [])
    both, final = x + y, T.FinalOpsHook(x * 2.0, {x: 4.0})
    with T.MonitoredSession(hooks=[T.FeedFnHook(lambda: {x: 3.0}), final]) as sess:
        assert sess.run(both, {y: 1.0}) == 4.0
        with pytest.raises(RuntimeError, match="fed by a SessionRunHook and user"):
            sess.run(x, {x: 1.0})
    assert final.final_ops_values == 8.0
    with T.MonitoredSession(hooks=[T.FeedFnHook(lambda: {x: 3.0}), T.FeedFnHook(lambda: {x: 3.0})]) as sess:
        with pytest.raises(RuntimeError, match="fed by two hooks"):
            sess.run(x)


def test_the_end_of_the_input_ends_the_block():
    v = tf.Variable(0, name="v")
    count = v.count_up_to(3)
    seen = []
    record = Record()
    T.get_or_create_global_step()
    with T.MonitoredSession(hooks=[record]) as sess:
        while not sess.should_stop():
            seen.append(int(sess.run(count)))
    assert seen == [0, 1, 2] and record.calls[-1] == "end"
    with pytest.raises(ZeroDivisionError):
        with T.MonitoredSession(hooks=[record]) as sess:
            1 / 0
    assert record.calls[-1] == "made"


def test_recovery_from_a_lost_session(tmp_path):
    _, train = counted()

    class Losing(T.SessionRunHook):
        left = [tf.errors.AbortedError, tf.errors.UnavailableError]

        def before_run(self, run_context):
            if run_context.session.run("w:0") == 3.0 and self.left:
                raise self.left.pop(0)(None, None, "lost")

    record = Record()
    with T.MonitoredTrainingSession(checkpoint_dir=str(tmp_path), hooks=[Losing(), record, T.StopAtStepHook(last_step=5)],
                                    save_checkpoint_steps=2, save_summaries_steps=None, log_step_count_steps=None) as sess:
        while not sess.should_stop():
            sess.run(train)
    assert record.calls.count("made") == 3
    assert T.load_variable(str(tmp_path), "w") == 5.0
    with pytest.raises(tf.errors.AbortedError):
        Losing.left = [tf.errors.AbortedError]
        with T.SingularMonitoredSession(hooks=[Losing()]) as sess:
            for _ in range(9):
                sess.run(train)


def test_step_fn():
    _, train = counted()
    record = Record()

    def step(step_context):
        step_context.session.run(train)
        if step_context.session.run("w:0") == 4:
            step_context.request_stop()
        return step_context.run_with_hooks("w:0")

    with T.MonitoredSession(hooks=[record]) as sess:
        found = []
        while not sess.should_stop():
            found.append(float(sess.run_step_fn(step)))
    assert found == [1, 2, 3] and record.calls[2:] == ["before", 1, "before", 2, "before", 3, "end"]
    with T.MonitoredSession() as sess:
        with pytest.raises(ValueError, match="step_context"):
            sess.run_step_fn(lambda other: None)


def test_scaffold():
    w = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    x = tf.placeholder(tf.float32, [])
    scaffold = T.Scaffold(init_op=w.assign(x).op, init_feed_dict={x: 4.0},
                          init_fn=lambda s, sess: w.load(sess.run(w) + 1, sess), local_init_op=tf.no_op())
    with T.SingularMonitoredSession(scaffold=scaffold) as sess:
        assert sess.run(w) == 5.0 and sess.raw_session().run(w) == 5.0
    assert scaffold.saver.last_checkpoints == [] and tf.get_collection(tf.GraphKeys.SAVERS) == [scaffold.saver]
    again = T.Scaffold(copy_from_scaffold=scaffold, init_op=w.initializer)
    assert again.saver is scaffold.saver and again.init_op is w.initializer and again.init_feed_dict == {x: 4.0}
    with pytest.raises(TypeError):
        T.Scaffold(copy_from_scaffold=3)
    tf.add_to_collection(tf.GraphKeys.SAVERS, T.Saver())
    with pytest.raises(RuntimeError, match="More than one item"):
        T.Scaffold(init_op=w.initializer).finalize()
    with pytest.raises(RuntimeError, match="did not make model ready.*Variables not initialized: w"):
        with T.MonitoredSession(T.ChiefSessionCreator(T.Scaffold(init_op=tf.no_op(), saver=scaffold.saver))):
            pass


def test_training_session_writes_and_goes_on(tmp_path):
    folder = str(tmp_path / "run")
    for last in (5, 8):
        with tf.Graph().as_default():
            loss, train = counted()
            tf.summary.scalar("error", loss)
            saved = []

            class Listener(T.CheckpointSaverListener):
                def after_save(self, session, global_step_value):
                    saved.append(global_step_value)

            hooks = [T.StopAtStepHook(last_step=last),
                     T.CheckpointSaverHook(str(tmp_path / "more"), save_steps=3, listeners=[Listener()], scaffold=None, saver=T.Saver())]
            with T.MonitoredTrainingSession(checkpoint_dir=folder, hooks=hooks, save_checkpoint_steps=2, save_summaries_steps=2,
                                            log_step_count_steps=2) as sess:
                while not sess.should_stop():
                    sess.run(train)
        assert T.latest_checkpoint(folder) == os.path.join(folder, f"model.ckpt-{last}")
    assert T.load_variable(folder, "w") == 8.0
    assert saved == [5, 8]
    assert os.path.exists(os.path.join(folder, "graph.pbtxt"))
    events = [e for p in sorted(os.listdir(folder)) if "tfevents" in p for e in T.summary_iterator(os.path.join(folder, p))]
    values = [(v.tag, e.step) for e in events for v in e.summary.value]
    assert [s for tag, s in values if tag == "error"] == [1, 3, 5, 6, 8]
    assert {tag for tag, _ in values} == {"error", "global_step/sec"}


def test_session_manager(tmp_path):
    w = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    local = tf.Variable(3.0, collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    saver = T.Saver([w])
    manager = T.SessionManager(ready_op=tf.report_uninitialized_variables(), local_init_op=local.initializer, recovery_wait_secs=0.01)
    with pytest.raises(RuntimeError, match="no init_op or init_fn"):
        T.SessionManager().prepare_session("")
    sess, restored = manager.recover_session("", saver, checkpoint_dir=str(tmp_path))
    assert not restored
    sess = manager.prepare_session("", init_op=w.initializer, saver=saver, checkpoint_dir=str(tmp_path))
    sess.run(w.assign(7.0))
    saver.save(sess, str(tmp_path / "m"), global_step=1)
    sess, restored = manager.recover_session("", saver, checkpoint_dir=str(tmp_path))
    assert restored and sess.run([w, local]) == [7.0, 3.0]
    with pytest.raises(tf.errors.DeadlineExceededError, match="w"):
        manager.wait_for_session("", max_wait_secs=0.05)
    with pytest.raises(ValueError, match="ready_for_local_init_op"):
        T.SessionManager(ready_for_local_init_op=tf.report_uninitialized_variables())


def test_supervisor(tmp_path):
    folder = str(tmp_path)
    for total in (3.0, 6.0):
        with tf.Graph().as_default():
            loss, train = counted()
            tf.summary.scalar("error", loss)
            # Without the thread that saves: it saves when it begins, and a late one would be the latest checkpoint.
            sv = T.Supervisor(logdir=folder, save_model_secs=0, save_summaries_secs=600)
            assert tf.get_default_graph().finalized and sv.is_chief and sv.saver is not None and sv.save_path.endswith("model.ckpt")
            with sv.managed_session() as sess:
                for _ in range(3):
                    assert not sv.should_stop()
                    sess.run(train)
                sv.saver.save(sess, sv.save_path, global_step=sv.global_step)
                sv.summary_computed(sess, sess.run(sv.summary_op))
                assert sess.run("w:0") == total
            assert sv.should_stop()
    assert T.latest_checkpoint(folder).endswith("model.ckpt-6")
    assert any("tfevents" in p for p in os.listdir(folder))


def test_supervisor_threads_and_errors():
    _, train = counted()
    calls = []
    sv = T.Supervisor(saver=None, summary_op=None)
    with sv.managed_session() as sess:
        sv.loop(0.001, lambda s: calls.append(s.run("w:0")), (sess,))
        while not calls:
            time.sleep(0.001)
    assert calls[0] == 0.0
    with pytest.raises(ZeroDivisionError):
        with sv.managed_session() as sess:
            1 / 0
    with sv.managed_session() as sess:
        raise tf.errors.OutOfRangeError(None, None, "the end")
    with pytest.raises(RuntimeError, match="summary writer"):
        sv.summary_computed(None, b"")
    with tf.Graph().as_default():
        tf.Variable(1.0)
        with pytest.raises(ValueError, match="device set"):
            T.Supervisor(is_chief=False)


def test_supervisor_with_a_function(tmp_path):
    w = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    sv = T.Supervisor(logdir=None, init_op=None, init_fn=lambda sess: w.load(2.0, sess), summary_writer=None)
    sess = sv.prepare_or_wait_for_session()
    assert sess.run(w) == 2.0
    sv.request_stop()
    sv.wait_for_stop()
    sv.stop()


def test_basic_train_loop():
    _, train = counted()
    left = [tf.errors.AbortedError(None, None, "lost")]
    sv = T.Supervisor(saver=None, summary_op=None)

    def step(sess, last, bonus=0):
        if sess.run("w:0") == 2.0 and left:
            raise left.pop()
        sess.run(train)
        if sess.run("w:0") == last + bonus:
            sv.request_stop()

    T.basic_train_loop(sv, step, args=(3,), kwargs={"bonus": 1})
    assert not left and sv.should_stop()


def test_profiler(tmp_path):
    _, train = counted()
    with flags.override(interpret=0), T.MonitoredSession(hooks=[T.ProfilerHook(save_steps=2, output_dir=str(tmp_path))]) as sess:
        for _ in range(5):
            sess.run(train)
    assert sorted(p for p in os.listdir(tmp_path) if p.startswith("timeline")) == ["timeline-2.json", "timeline-4.json"]


@pytest.mark.parametrize("supervised", [False, True])
def test_queues_end_the_block(supervised):
    x = T.range_input_producer(5, num_epochs=2, shuffle=False).dequeue()
    seen = []
    if supervised:
        sv = T.Supervisor(saver=None, summary_op=None)
        with sv.managed_session() as sess:
            while not sv.should_stop():
                seen.append(int(sess.run(x)))
    else:
        with T.MonitoredSession() as sess:
            while not sess.should_stop():
                seen.append(int(sess.run(x)))
    assert seen == [0, 1, 2, 3, 4] * 2
