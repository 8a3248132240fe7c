"""`tf.train.Supervisor`: a session with threads that save checkpoints and write summaries, from before MonitoredSession."""
from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import Any, Iterator

from .. import control_flow_ops, errors, graph, variables
from ..graph import GraphKeys
from ..platform import logging
from . import saver as savers
from .hooks import rate, session_log, write_graph_text
from .monitored_session import _merged_summaries, _part
from .session_manager import SessionManager
from .training_util import global_step as step_of


class Supervisor:
    """Starts training from the latest checkpoint of a folder, and saves and writes summaries while it goes on.

        sv = tf.train.Supervisor(logdir="run")
        with sv.managed_session() as sess:
            while not sv.should_stop():
                sess.run(train_op)

    The graph is final from here on.  Pieces that are USE_DEFAULT are taken from the graph's collections or made; None leaves
    a piece out.

    Args:
        graph: the default graph by default.
        ready_op, ready_for_local_init_op: names of variables without values.
        is_chief: False waits for another to initialize, and writes nothing.
        init_op, init_feed_dict, init_fn: initialize the variables, where no checkpoint does; `init_fn(session)` comes last.
        local_init_op: initializes local variables and tables, in every session.
        logdir: where checkpoints and events go.
        summary_op, save_summaries_secs: what the thread of summaries runs, and how often; 0 never.
        saver, save_model_secs, checkpoint_basename: what saves, how often (0 never), under which name.
        global_step: counts steps, in names and events.
        recovery_wait_secs: seconds between two looks of one that waits.
        stop_grace_secs: how long threads may take to end.
        session_manager: makes the sessions.
        summary_writer: where events go; a FileWriter of `logdir` by default.
    """

    USE_DEFAULT = 0

    def __init__(self, graph: Any = None, ready_op: Any = USE_DEFAULT, ready_for_local_init_op: Any = USE_DEFAULT, is_chief: bool = True,
                 init_op: Any = USE_DEFAULT, init_feed_dict: Any = None, local_init_op: Any = USE_DEFAULT, logdir: Any = None,
                 summary_op: Any = USE_DEFAULT, saver: Any = USE_DEFAULT, global_step: Any = USE_DEFAULT, save_summaries_secs: float = 120,
                 save_model_secs: float = 600, recovery_wait_secs: float = 30, stop_grace_secs: float = 120,
                 checkpoint_basename: str = "model.ckpt", session_manager: Any = None, summary_writer: Any = USE_DEFAULT,
                 init_fn: Any = None, local_init_run_options: Any = None):
        self._graph = _default() if graph is None else graph
        with self._graph.as_default():
            self._ready_op = _piece(ready_op, GraphKeys.READY_OP, variables.report_uninitialized_variables)
            self._ready_for_local_init_op = _piece(ready_for_local_init_op, GraphKeys.READY_FOR_LOCAL_INIT_OP, lambda: None)
            self._init_op = _piece(init_op, GraphKeys.INIT_OP, variables.global_variables_initializer)
            self._local_init_op = _piece(local_init_op, GraphKeys.LOCAL_INIT_OP, lambda: control_flow_ops.group(
                variables.local_variables_initializer(), variables.tables_initializer()))
            self._saver = _piece(saver, GraphKeys.SAVERS, lambda: savers.Saver() if variables.global_variables() else None)
            self._summary_op = _piece(summary_op, GraphKeys.SUMMARY_OP, _merged_summaries)
            self._global_step = _piece(global_step, GraphKeys.GLOBAL_STEP, self._default_global_step_tensor)
        self._is_chief, self._init_feed_dict, self._init_fn = is_chief, init_feed_dict, init_fn
        self._coord = _part("Coordinator")()
        self._stop_grace_secs = stop_grace_secs
        self._logdir = logdir if is_chief else None
        self._save_summaries_secs = save_summaries_secs if is_chief else None
        self._save_model_secs = save_model_secs if is_chief else None
        self._save_path = os.path.join(logdir, checkpoint_basename) if self._logdir else None
        self._summary_writer = self._writer(summary_writer) if is_chief else None
        self._graph_added_to_summary = False
        self._session_manager = session_manager if session_manager is not None else SessionManager(
            local_init_op=self._local_init_op, ready_op=self._ready_op, ready_for_local_init_op=self._ready_for_local_init_op,
            graph=self._graph, recovery_wait_secs=recovery_wait_secs, local_init_run_options=local_init_run_options)
        self._verify_setup()
        self._graph.finalize()

    def _writer(self, given: Any) -> Any:
        if given is not Supervisor.USE_DEFAULT:
            return given
        if not self._logdir:
            return None
        from .. import summary

        return summary.FileWriter(self._logdir)

    def _default_global_step_tensor(self) -> Any:
        try:
            found = graph.get_default_graph().get_tensor_by_name("global_step:0")
        except KeyError:
            return None
        return found if found.dtype.base_dtype.is_integer else None

    def _verify_setup(self) -> None:
        if not self._is_chief:
            for op in self._graph.get_operations():
                if op.type in ("Variable", "VariableV2") and not op.device:
                    raise ValueError(f"When using replicas, all Variables must have their device set: {op!r}")

    is_chief = property(lambda self: self._is_chief)
    session_manager = property(lambda self: self._session_manager)
    coord = property(lambda self: self._coord)
    init_op = property(lambda self: self._init_op)
    init_feed_dict = property(lambda self: self._init_feed_dict)
    ready_op = property(lambda self: self._ready_op)
    ready_for_local_init_op = property(lambda self: self._ready_for_local_init_op)
    summary_writer = property(lambda self: self._summary_writer)
    summary_op = property(lambda self: self._summary_op)
    save_summaries_secs = property(lambda self: self._save_summaries_secs)
    global_step = property(lambda self: self._global_step)
    saver = property(lambda self: self._saver)
    save_model_secs = property(lambda self: self._save_model_secs)
    save_path = property(lambda self: self._save_path)

    # -- sessions

    @contextmanager
    def managed_session(self, master: str = "", config: Any = None, start_standard_services: bool = True,
                        close_summary_writer: bool = True) -> Iterator[Any]:
        """A session for a `with` block; afterwards threads have ended, and errors of the block or of them are raised.

        OutOfRangeError, the end of the input, is none.
        """
        sess = None
        try:
            sess = self.prepare_or_wait_for_session(master, config, start_standard_services=start_standard_services)
            yield sess
        except Exception as e:
            self.request_stop(e)
        finally:
            try:
                self.stop(close_summary_writer=close_summary_writer)
            finally:
                if sess is not None:
                    sess.close()

    def prepare_or_wait_for_session(self, master: str = "", config: Any = None, wait_for_checkpoint: bool = False,
                                    max_wait_secs: float = 7200, start_standard_services: bool = True) -> Any:
        """A session whose variables have values; threads are started unless `start_standard_services` is False."""
        self._coord.clear_stop()
        if self._summary_writer:
            self._summary_writer.reopen()
        if self._is_chief:
            sess = self._session_manager.prepare_session(
                master, init_op=self._init_op, saver=self._saver, checkpoint_dir=self._logdir, wait_for_checkpoint=wait_for_checkpoint,
                max_wait_secs=max_wait_secs, config=config, init_feed_dict=self._init_feed_dict, init_fn=self._init_fn)
            self._write_graph()
            if start_standard_services:
                logging.info("Starting standard services.")
                self.start_standard_services(sess)
        else:
            sess = self._session_manager.wait_for_session(master, config=config, max_wait_secs=max_wait_secs)
        if start_standard_services:
            logging.info("Starting queue runners.")
            self.start_queue_runners(sess)
        return sess

    def _write_graph(self) -> None:
        if self._logdir:
            with self._graph.as_default():
                write_graph_text(self._logdir)
        if self._summary_writer and not self._graph_added_to_summary:
            self._summary_writer.add_graph(self._graph)
            self._graph_added_to_summary = True

    # -- threads

    def start_standard_services(self, sess: Any) -> list[Any] | None:
        """Starts the threads of summaries, of steps per second and of checkpoints; None without a `logdir`.

        Raises:
            RuntimeError: not the chief.
        """
        if not self._is_chief:
            raise RuntimeError("Only chief supervisor can start standard services. Because only chief supervisors can write events.")
        if not self._logdir:
            logging.warning("Standard services need a 'logdir' passed to the SessionManager")
            return None
        if self._global_step is not None and self._summary_writer:
            self._summary_writer.add_session_log(session_log("START"), step_of(sess, self._global_step))
        started = []
        if self._save_summaries_secs and self._summary_writer:
            if self._summary_op is not None:
                started.append(self.loop(self._save_summaries_secs, self._write_summaries, (sess,)))
            if self._global_step is not None:
                started.append(self.loop(self._save_summaries_secs, _StepRate(self, sess)))
        if self._saver and self._save_model_secs:
            os.makedirs(self._logdir, exist_ok=True)
            started.append(self.loop(self._save_model_secs, self._save_model, (sess,)))
        return started

    def _write_summaries(self, sess: Any) -> None:
        if self._global_step is None:
            self._summary_writer.add_summary(sess.run(self._summary_op), None)
        else:
            text, step = sess.run([self._summary_op, self._global_step])
            logging.info("Recording summary at step %s.", step)
            self._summary_writer.add_summary(text, step)

    def _save_model(self, sess: Any) -> None:
        logging.info("Saving checkpoint to path %s", self._save_path)
        self._saver.save(sess, self._save_path, global_step=self._global_step)
        if self._summary_writer and self._global_step is not None:
            self._summary_writer.add_session_log(session_log("CHECKPOINT", self._save_path or ""), step_of(sess, self._global_step))

    def start_queue_runners(self, sess: Any, queue_runners: Any = None) -> list[Any]:
        """Starts the threads of queue runners, those of the graph by default."""
        runners = self._graph.get_collection(GraphKeys.QUEUE_RUNNERS) if queue_runners is None else queue_runners
        return [thread for r in runners for thread in r.create_threads(sess, coord=self._coord, daemon=True, start=True)]

    def loop(self, timer_interval_secs: float | None, target: Any, args: Any = None, kwargs: Any = None) -> Any:
        """Starts a thread that calls `target` every so many seconds (None: again and again) until the stop."""
        looper = _part("LooperThread")(self._coord, timer_interval_secs, target=target, args=args, kwargs=kwargs)
        looper.start()
        return looper

    def stop(self, threads: Any = None, close_summary_writer: bool = True, ignore_live_threads: bool = False) -> None:
        """Ends the threads, and raises what one of them raised."""
        self._coord.request_stop()
        try:
            self._coord.join(threads, stop_grace_period_secs=self._stop_grace_secs, ignore_live_threads=ignore_live_threads)
        finally:
            if close_summary_writer and self._summary_writer:
                self._summary_writer.add_session_log(session_log("STOP"))
                self._summary_writer.close()
                self._graph_added_to_summary = False

    def request_stop(self, ex: Any = None) -> None:
        """Asks the threads to end; `ex` is raised by `stop()`."""
        self._coord.request_stop(ex=ex)

    def should_stop(self) -> bool:
        return self._coord.should_stop()

    def stop_on_exception(self) -> Any:
        """A `with` block whose errors ask for the stop."""
        return self._coord.stop_on_exception()

    def wait_for_stop(self) -> None:
        self._coord.wait_for_stop()

    def summary_computed(self, sess: Any, summary: Any, global_step: int | None = None) -> None:
        """Writes a summary.

        Raises:
            RuntimeError: there is no writer.
        """
        if not self._summary_writer:
            raise RuntimeError("Writing a summary requires a summary writer.")
        if global_step is None and self._global_step is not None:
            global_step = step_of(sess, self._global_step)
        self._summary_writer.add_summary(summary, global_step)

    PrepareSession, StartQueueRunners, StartStandardServices = prepare_or_wait_for_session, start_queue_runners, start_standard_services
    Stop, RequestStop, Loop, ShouldStop, StopOnException = stop, request_stop, loop, should_stop, stop_on_exception
    WaitForStop, SummaryComputed = wait_for_stop, summary_computed


def basic_train_loop(supervisor: Supervisor, train_step_fn: Any, args: Any = None, kwargs: Any = None, master: str = "") -> None:
    """Calls `train_step_fn(session, *args, **kwargs)` until the supervisor stops; after an AbortedError in a new session."""
    again = True
    while again:
        again = False
        try:
            with supervisor.managed_session(master) as sess:
                while not supervisor.should_stop():
                    train_step_fn(sess, *(args or ()), **(kwargs or {}))
        except errors.AbortedError:
            again = True


class _StepRate:
    """Writes steps per second since the call before."""

    def __init__(self, sv: Supervisor, sess: Any):
        self.sv, self.sess, self.tag = sv, sess, f"{sv.global_step.op.name}/sec"
        self.time, self.step = time.time(), step_of(sess, sv.global_step)

    def __call__(self) -> None:
        now, step = time.time(), step_of(self.sess, self.sv.global_step)
        found = (step - self.step) / (now - self.time) if now > self.time else float("inf")
        self.time, self.step = now, step
        self.sv.summary_writer.add_summary(rate(self.tag, found), step)
        logging.log_first_n(logging.INFO, "%s: %g", 10, self.tag, found)


def _default() -> Any:
    return graph.get_default_graph()


def _piece(given: Any, key: str, make: Any) -> Any:
    """A piece of the training: what is given, what the collection has, or what is made and added to it."""
    if given is not Supervisor.USE_DEFAULT:
        return given
    found = graph.get_default_graph().get_collection(key)
    if len(found) > 1:
        logging.info("Found %d %s operations. Returning the first one.", len(found), key)
    if found:
        return found[0]
    made = make()
    if made is not None:
        graph.get_default_graph().add_to_collection(key, made)
    return made
