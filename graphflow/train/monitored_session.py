"""Monitored sessions: a session that initializes or restores itself, runs hooks around each run, and says when to stop.

    MonitoredSession -> _Recoverable (makes a new session after a preemption) -> _Coordinated (threads and their errors)
        -> _Hooked (hooks) -> Session
"""
from __future__ import annotations

import inspect
from typing import Any, Callable

from .. import control_flow_ops, errors, graph, variables
from ..array_ops import concat
from ..graph import GraphKeys
from ..platform import logging
from . import hooks as hook_kinds
from . import saver as savers
from .session_manager import SessionManager
from .session_run_hook import SessionRunArgs, SessionRunContext, SessionRunValues

USE_DEFAULT = object()
PREEMPTIONS = (errors.AbortedError, errors.UnavailableError)


def _part(name: str) -> Any:
    """A name of `tf.train` that is made elsewhere."""
    from .. import train

    return getattr(train, name)


# ---------------------------------------------------------------- what is needed to start


class Scaffold:
    """The pieces with which training starts; those not given are taken from collections, or made by `finalize()`.

    Args:
        init_op, init_feed_dict: initialize the global variables, where no checkpoint does.
        init_fn: called as `init_fn(scaffold, session)` after that.
        ready_op, ready_for_local_init_op: names of variables without values.
        local_init_op, local_init_feed_dict: initialize local variables and tables, in every session.
        summary_op: all summaries.
        saver: what restores and saves.
        copy_from_scaffold: another Scaffold, for pieces not given.
    """

    def __init__(self, init_op: Any = None, init_feed_dict: Any = None, init_fn: Any = None, ready_op: Any = None,
                 ready_for_local_init_op: Any = None, local_init_op: Any = None, summary_op: Any = None, saver: Any = None,
                 copy_from_scaffold: Scaffold | None = None, local_init_feed_dict: Any = None):
        other = copy_from_scaffold
        if other is not None and not isinstance(other, Scaffold):
            raise TypeError("copy_from_scaffold is not a Scaffold instance.")

        def given(value: Any, name: str) -> Any:
            return getattr(other, name) if value is None and other is not None else value

        self._user_init_fn = given(init_fn, "_user_init_fn")
        self._init_op, self._init_feed_dict = given(init_op, "_init_op"), given(init_feed_dict, "_init_feed_dict")
        self._ready_op = given(ready_op, "_ready_op")
        self._ready_for_local_init_op = given(ready_for_local_init_op, "_ready_for_local_init_op")
        self._local_init_op = given(local_init_op, "_local_init_op")
        self._local_init_feed_dict = given(local_init_feed_dict, "_local_init_feed_dict")
        self._summary_op, self._saver = given(summary_op, "_summary_op"), given(saver, "_saver")

    init_op = property(lambda self: self._init_op)
    init_feed_dict = property(lambda self: self._init_feed_dict)
    ready_op = property(lambda self: self._ready_op)
    ready_for_local_init_op = property(lambda self: self._ready_for_local_init_op)
    local_init_op = property(lambda self: self._local_init_op)
    local_init_feed_dict = property(lambda self: self._local_init_feed_dict)
    summary_op = property(lambda self: self._summary_op)
    saver = property(lambda self: self._saver)

    @property
    def init_fn(self) -> Any:
        return None if self._user_init_fn is None else lambda session: self._user_init_fn(self, session)

    def finalize(self) -> Scaffold:
        """Makes what is missing and finalizes the graph.

        Raises:
            RuntimeError: a collection holds several of a piece.
        """
        default = Scaffold.get_or_default
        if self._init_op is None:
            self._init_op = default("init_op", GraphKeys.INIT_OP, lambda: control_flow_ops.group(
                variables.global_variables_initializer(), *graph.get_default_graph().get_collection("saved_model_initializers")))
        if self._ready_op is None:
            self._ready_op = default("ready_op", GraphKeys.READY_OP, lambda: concat([variables.report_uninitialized_variables()], 0))
        if self._ready_for_local_init_op is None:
            self._ready_for_local_init_op = default(
                "ready_for_local_init_op", GraphKeys.READY_FOR_LOCAL_INIT_OP,
                lambda: variables.report_uninitialized_variables(variables.global_variables()))
        if self._local_init_op is None:
            self._local_init_op = default("local_init_op", GraphKeys.LOCAL_INIT_OP, Scaffold.default_local_init_op)
        if self._summary_op is None:
            self._summary_op = default("summary_op", GraphKeys.SUMMARY_OP, _merged_summaries)
        if self._saver is None:
            self._saver = default("saver", GraphKeys.SAVERS, lambda: savers.Saver(sharded=True, allow_empty=True))
        self._saver.build()
        graph.get_default_graph().finalize()
        logging.info("Graph was finalized.")
        return self

    @staticmethod
    def get_or_default(arg_name: str, collection_key: str, default_constructor: Callable[[], Any]) -> Any:
        """The one item of a collection, or what the function makes, which then is added to it."""
        found = graph.get_default_graph().get_collection(collection_key)
        if len(found) > 1:
            raise RuntimeError(f'More than one item in the collection "{collection_key}". Please indicate which one to use by passing it '
                               f"to the tf.Scaffold constructor as:  tf.Scaffold({arg_name}=item to use)")
        if found:
            return found[0]
        made = default_constructor()
        if made is not None:
            graph.get_default_graph().add_to_collection(collection_key, made)
        return made

    @staticmethod
    def default_local_init_op() -> Any:
        """Initializes local variables and tables."""
        return control_flow_ops.group(variables.local_variables_initializer(), variables.tables_initializer())


def _merged_summaries() -> Any:
    """All summaries; None where there are none."""
    if not graph.get_default_graph().get_collection(GraphKeys.SUMMARIES):
        return None
    from .. import summary

    return summary.merge_all()


class SessionCreator:
    """Makes sessions: `create_session()`."""

    def create_session(self) -> Any:
        raise NotImplementedError(f"create_session is not implemented for {self}.")


class _Creator(SessionCreator):
    def __init__(self, scaffold: Scaffold | None, master: str, config: Any):
        self._scaffold, self._master, self._config = scaffold or Scaffold(), master, config
        self._manager: SessionManager | None = None

    def _get_session_manager(self) -> SessionManager:
        if self._manager is None:
            s = self._scaffold
            self._manager = SessionManager(local_init_op=s.local_init_op, local_init_feed_dict=s.local_init_feed_dict, ready_op=s.ready_op,
                                           ready_for_local_init_op=s.ready_for_local_init_op, graph=graph.get_default_graph())
        return self._manager


class ChiefSessionCreator(_Creator):
    """Makes sessions restored from a checkpoint, or initialized."""

    def __init__(self, scaffold: Scaffold | None = None, master: str = "", config: Any = None, checkpoint_dir: Any = None,
                 checkpoint_filename_with_path: Any = None):
        super().__init__(scaffold, master, config)
        self._checkpoint_dir, self._checkpoint_filename_with_path = checkpoint_dir, checkpoint_filename_with_path

    def create_session(self) -> Any:
        s = self._scaffold.finalize()
        return self._get_session_manager().prepare_session(
            self._master, saver=s.saver, checkpoint_dir=self._checkpoint_dir,
            checkpoint_filename_with_path=self._checkpoint_filename_with_path, config=self._config, init_op=s.init_op,
            init_feed_dict=s.init_feed_dict, init_fn=s.init_fn)


class WorkerSessionCreator(_Creator):
    """Waits until a chief has initialized the variables."""

    def __init__(self, scaffold: Scaffold | None = None, master: str = "", config: Any = None, max_wait_secs: float = 30 * 60):
        super().__init__(scaffold, master, config)
        self._max_wait_secs = max_wait_secs

    def create_session(self) -> Any:
        self._scaffold.finalize()
        return self._get_session_manager().wait_for_session(self._master, config=self._config, max_wait_secs=self._max_wait_secs)


# ---------------------------------------------------------------- layers around a session


class _Wrapped:
    """A session around a session."""

    def __init__(self, sess: Any):
        self._sess = sess

    graph = property(lambda self: self._sess.graph)
    sess_str = property(lambda self: self._sess.sess_str)

    def should_stop(self) -> bool:
        if self._check_stop():
            return True
        return self._sess is None or isinstance(self._sess, _Wrapped) and self._sess.should_stop()

    def _check_stop(self) -> bool:
        return False

    def close(self) -> None:
        if self._sess is not None:
            try:
                self._sess.close()
            except PREEMPTIONS as e:
                logging.error("An error occurred when attempting to close the session: %s", e)
            finally:
                self._sess = None

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return self._sess.run(*args, **kwargs)

    def run_step_fn(self, step_fn: Callable[..., Any], raw_session: Callable[[], Any], run_with_hooks: Any = None) -> Any:
        return step_fn(MonitoredSession.StepContext(raw_session(), run_with_hooks or self.run))


class _Recoverable(_Wrapped):
    """Makes a new session when one was lost, and does the run again in it."""

    def __init__(self, creator: Any):
        self._creator = creator
        super().__init__(self._create())

    def _create(self) -> Any:
        while True:
            try:
                return self._creator.create_session()
            except PREEMPTIONS as e:
                logging.info("An error was raised while a session was being created; a new one will be. Error: %s", e)

    def _check_stop(self) -> bool:
        try:
            return self._sess is None or self._sess._check_stop()
        except PREEMPTIONS as e:
            self._lost(e)
            self._sess = self._create()
            return False
        except Exception:  # the next run raises it
            return True

    def _lost(self, e: Exception) -> None:
        logging.info("The session was lost; it will be closed and a new one created. Error: %s", e)
        self.close()

    def _again(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                if self._sess is None:
                    self._sess = self._create()
                return work()
            except PREEMPTIONS as e:
                self._lost(e)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        return self._again(lambda: self._sess.run(*args, **kwargs))

    def run_step_fn(self, step_fn: Any, raw_session: Any, run_with_hooks: Any = None) -> Any:
        return self._again(lambda: self._sess.run_step_fn(step_fn, raw_session, self._sess.run))


class _Coordinated(_Wrapped):
    """Raises errors of the coordinator's threads, and joins them at the end."""

    def __init__(self, sess: Any, coord: Any, grace: float):
        super().__init__(sess)
        self._coord, self._grace = coord, grace

    def _check_stop(self) -> bool:
        self._coord.raise_requested_exception()
        return self._coord.should_stop()

    def close(self) -> None:
        self._coord.request_stop()
        try:
            self._coord.join(stop_grace_period_secs=self._grace, ignore_live_threads=True)
        finally:
            super().close()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._sess.run(*args, **kwargs)
        except PREEMPTIONS:
            raise
        except Exception as e:  # a thread's error may be the cause
            try:
                self._coord.raise_requested_exception()
            except PREEMPTIONS:
                raise
            except Exception:
                raise e from None
            raise


class _Hooked(_Wrapped):
    """Calls the hooks around each run and merges what they ask for."""

    def __init__(self, sess: Any, hooks: list[Any]):
        super().__init__(sess)
        self._hooks, self._should_stop = hooks, False

    def _check_stop(self) -> bool:
        return self._should_stop

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        if self.should_stop():
            raise RuntimeError("Run called even after should_stop requested.")
        context = SessionRunContext(SessionRunArgs(fetches, feed_dict), self._sess)
        wanted: dict[Any, Any] = {"caller": fetches}
        feeds: dict[Any, Any] = {}
        for hook in self._hooks:
            asked = hook.before_run(context)
            if asked is None:
                continue
            if asked.fetches is not None:
                wanted[hook] = asked.fetches
            if asked.feed_dict:
                _apart(feeds, asked.feed_dict, "Same tensor is fed by two hooks.")
                feeds.update(asked.feed_dict)
            if asked.options is not None:
                options = asked.options if options is None else _merged(options, asked.options)
        if feeds and feed_dict:
            _apart(feeds, feed_dict, "Same tensor is fed by a SessionRunHook and user.")
        feeds.update(feed_dict or {})
        if options is not None and run_metadata is None:
            from ..proto import RunMetadata

            run_metadata = RunMetadata()
        found = self._sess.run(wanted, feeds, options, run_metadata)
        for hook in self._hooks:
            hook.after_run(context, SessionRunValues(found.get(hook), options, run_metadata))
        self._should_stop = self._should_stop or context.stop_requested
        return found["caller"]


def _apart(a: Any, b: Any, message: str) -> None:
    both = set(a) & set(b)
    if both:
        raise RuntimeError(f"{message} Conflict(s): {sorted(str(getattr(t, 'name', t)) for t in both)}")


def _merged(a: Any, b: Any) -> Any:
    """Options that do what both ask: the fuller trace, the longer time limit."""
    from ..config import RunOptions

    return RunOptions(trace_level=max(a.trace_level, b.trace_level), timeout_in_ms=max(a.timeout_in_ms, b.timeout_in_ms),
                      output_partition_graphs=a.output_partition_graphs or b.output_partition_graphs)


class _Threads(SessionCreator):
    """Makes a session, and starts the threads and hooks that belong to it."""

    def __init__(self, creator: Any, hooks: list[Any], grace: float):
        self._creator, self._hooks, self._grace = creator, hooks, grace
        self.coord: Any = None
        self.tf_sess: Any = None

    def create_session(self) -> Any:
        self.tf_sess = self._creator.create_session()
        self.coord = _part("Coordinator")(clean_stop_exception_types=[])
        if graph.get_default_graph().get_collection(GraphKeys.QUEUE_RUNNERS):
            _part("start_queue_runners")(sess=self.tf_sess, coord=self.coord)
        for hook in self._hooks:
            hook.after_create_session(self.tf_sess, self.coord)
        return _Coordinated(_Hooked(self.tf_sess, self._hooks), self.coord, self._grace)


class _Monitored:
    """What both monitored sessions do."""

    def __init__(self, session_creator: Any, hooks: Any, should_recover: bool, stop_grace_period_secs: float = 120):
        self._graph_was_finalized = graph.get_default_graph().finalized
        self._hooks = list(hooks or [])
        for hook in self._hooks:
            hook.begin()
        self._coordinated_creator = _Threads(session_creator or ChiefSessionCreator(), self._hooks, stop_grace_period_secs)
        creator = self._coordinated_creator
        self._sess: Any = _Recoverable(creator) if should_recover else creator.create_session()

    @property
    def graph(self) -> Any:
        return None if self._tf_sess() is None else self._tf_sess().graph

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """As `Session.run`, with the hooks around it.

        Raises:
            RuntimeError: a hook has asked for the end before, or the session is closed.
        """
        if self._sess is None:
            raise RuntimeError("Session is already closed.")
        return self._sess.run(fetches, feed_dict=feed_dict, options=options, run_metadata=run_metadata)

    def run_step_fn(self, step_fn: Callable[..., Any]) -> Any:
        """What `step_fn(step_context)` returns; `step_context` runs with hooks and without them.

        Raises:
            ValueError: `step_fn` takes something else than `step_context`.  StopIteration: it asked for the end.
        """
        taken = tuple(inspect.signature(step_fn).parameters)
        if taken not in (("step_context",), ("self", "step_context")):
            raise ValueError("`step_fn` may either have one `step_context` argument, or `self` and `step_context` arguments if it's an "
                             f"instance method. Got {taken} instead.")
        return self._sess.run_step_fn(step_fn, self._tf_sess)

    class StepContext:
        """`session` runs without hooks, `run_with_hooks` with them, `request_stop` leaves the step."""

        def __init__(self, session: Any, run_with_hooks_fn: Callable[..., Any]):
            self._session, self._run = session, run_with_hooks_fn

        session = property(lambda self: self._session)

        def run_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
            return self._run(*args, **kwargs)

        def request_stop(self) -> None:
            raise StopIteration("step_fn has requested the iterations to stop.")

    def should_stop(self) -> bool:
        """Whether the loop should end: a hook or thread asked for it, or the session is closed."""
        return self._sess is None or self._sess.should_stop()

    def close(self) -> None:
        self._close_internal()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> bool:
        ended = kind is not None and issubclass(kind, (errors.OutOfRangeError, StopIteration))
        self._close_internal(None if ended else kind)
        return ended

    def _close_internal(self, kind: Any = None) -> None:
        try:
            if kind is None:
                for hook in self._hooks:
                    hook.end(self._coordinated_creator.tf_sess)
        finally:
            try:
                if self._sess is None:
                    raise RuntimeError("Session is already closed.")
                self._sess.close()
            finally:
                self._sess = None
                self._coordinated_creator.tf_sess = self._coordinated_creator.coord = None
                if not self._graph_was_finalized:
                    graph.get_default_graph()._unsafe_unfinalize()

    def _is_closed(self) -> bool:
        return self._coordinated_creator.tf_sess is None

    def _tf_sess(self) -> Any:
        return self._coordinated_creator.tf_sess


class MonitoredSession(_Monitored):
    """A session that initializes or restores itself, calls hooks, and recovers from AbortedError and UnavailableError.

        with tf.train.MonitoredSession(hooks=[tf.train.StopAtStepHook(last_step=1000)]) as sess:
            while not sess.should_stop():
                sess.run(train_op)

    The graph is final while it is open.  OutOfRangeError and StopIteration end the `with` block quietly.

    Args:
        session_creator: a ChiefSessionCreator by default.
        hooks: SessionRunHooks.
        stop_grace_period_secs: how long threads may take to end.
    """

    def __init__(self, session_creator: Any = None, hooks: Any = None, stop_grace_period_secs: float = 120):
        super().__init__(session_creator, hooks, True, stop_grace_period_secs)


class SingularMonitoredSession(_Monitored):
    """A MonitoredSession that does not recover and whose `raw_session()` is there to be used."""

    def __init__(self, hooks: Any = None, scaffold: Scaffold | None = None, master: str = "", config: Any = None,
                 checkpoint_dir: Any = None, stop_grace_period_secs: float = 120, checkpoint_filename_with_path: Any = None):
        creator = ChiefSessionCreator(scaffold=scaffold, master=master, config=config, checkpoint_dir=checkpoint_dir,
                                      checkpoint_filename_with_path=checkpoint_filename_with_path)
        super().__init__(creator, hooks, False, stop_grace_period_secs)

    def raw_session(self) -> Any:
        """The session without hooks."""
        return self._tf_sess()


def MonitoredTrainingSession(master: str = "", is_chief: bool = True, checkpoint_dir: Any = None, scaffold: Scaffold | None = None,
                             hooks: Any = None, chief_only_hooks: Any = None, save_checkpoint_secs: Any = USE_DEFAULT,
                             save_summaries_steps: Any = USE_DEFAULT, save_summaries_secs: Any = USE_DEFAULT, config: Any = None,
                             stop_grace_period_secs: float = 120, log_step_count_steps: int | None = 100, max_wait_secs: float = 7200,
                             save_checkpoint_steps: Any = USE_DEFAULT, summary_dir: Any = None,
                             save_graph_def: bool = True) -> MonitoredSession:
    """A MonitoredSession with the hooks of training: checkpoints, summaries, steps per second.

    Args:
        is_chief: False waits for another to initialize, and writes nothing.
        checkpoint_dir: restored from and saved into; None does neither.
        save_checkpoint_secs, save_checkpoint_steps: 600 seconds unless one is given; None twice saves nothing.
        save_summaries_steps, save_summaries_secs: 100 steps unless one is given; None twice writes none.
        summary_dir: where summaries go; `checkpoint_dir` by default.
        log_step_count_steps: how often steps per second are logged; None never.
        chief_only_hooks: hooks of the chief alone.
    """
    default = USE_DEFAULT
    if save_summaries_steps is default and save_summaries_secs is default:
        save_summaries_steps = 100
    if save_checkpoint_steps is default and save_checkpoint_secs is default:
        save_checkpoint_secs = 600
    save_summaries_steps, save_summaries_secs, save_checkpoint_secs, save_checkpoint_steps = [
        None if n is default else n for n in (save_summaries_steps, save_summaries_secs, save_checkpoint_secs, save_checkpoint_steps)]
    scaffold = scaffold or Scaffold()
    if not is_chief:
        creator: Any = WorkerSessionCreator(scaffold=scaffold, master=master, config=config, max_wait_secs=max_wait_secs)
        return MonitoredSession(creator, hooks, stop_grace_period_secs)
    all_hooks = list(chief_only_hooks or [])
    creator = ChiefSessionCreator(scaffold=scaffold, checkpoint_dir=checkpoint_dir, master=master, config=config)
    folder = summary_dir or checkpoint_dir
    if folder and log_step_count_steps and log_step_count_steps > 0:
        all_hooks.append(hook_kinds.StepCounterHook(output_dir=folder, every_n_steps=log_step_count_steps))
    if folder and ((save_summaries_steps or 0) > 0 or (save_summaries_secs or 0) > 0):
        all_hooks.append(hook_kinds.SummarySaverHook(scaffold=scaffold, save_steps=save_summaries_steps, save_secs=save_summaries_secs,
                                                     output_dir=folder))
    if checkpoint_dir and ((save_checkpoint_secs or 0) > 0 or (save_checkpoint_steps or 0) > 0):
        all_hooks.append(hook_kinds.CheckpointSaverHook(checkpoint_dir, save_steps=save_checkpoint_steps, save_secs=save_checkpoint_secs,
                                                        scaffold=scaffold, save_graph_def=save_graph_def))
    return MonitoredSession(creator, [*all_hooks, *(hooks or [])], stop_grace_period_secs)
