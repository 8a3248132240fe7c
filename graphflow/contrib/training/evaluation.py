"""Evaluating a model again and again while checkpoints of it appear."""
from __future__ import annotations

import math
import time
from typing import Any, Callable, Iterator

from ... import graph, types
from ...graph import GraphKeys
from ...init_ops import zeros_initializer
from ...ops import state
from ...platform import logging
from ...train import (ChiefSessionCreator, FinalOpsHook, MonitoredSession, Scaffold, SessionRunArgs, SessionRunHook,
                      get_or_create_global_step, global_step, latest_checkpoint)
from ...variable_scope import get_variable

__all__ = ["StopAfterNEvalsHook", "SummaryAtEndHook", "checkpoints_iterator", "evaluate_once", "evaluate_repeatedly",
           "get_or_create_eval_step", "wait_for_new_checkpoint"]


def get_or_create_eval_step() -> Any:
    """The graph's local variable that counts evaluation steps: int64.  Raises ValueError when there are several."""
    found = graph.get_default_graph().get_collection(GraphKeys.EVAL_STEP)
    if len(found) > 1:
        raise ValueError("Multiple tensors added to tf.GraphKeys.EVAL_STEP")
    if found:
        return found[0]
    return get_variable("eval_step", shape=[], dtype=types.int64, initializer=zeros_initializer(), trainable=False,
                        collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.EVAL_STEP])


def wait_for_new_checkpoint(checkpoint_dir: str, last_checkpoint: str | None = None, seconds_to_sleep: float = 1,
                            timeout: float | None = None) -> str | None:
    """The path of the latest checkpoint, as soon as it is another one than `last_checkpoint`; None after `timeout` seconds."""
    logging.info("Waiting for new checkpoint at %s", checkpoint_dir)
    end = None if timeout is None else time.time() + timeout
    while True:
        path = latest_checkpoint(checkpoint_dir)
        if path is not None and path != last_checkpoint:
            logging.info("Found new checkpoint at %s", path)
            return path
        if end is not None and time.time() + seconds_to_sleep > end:
            return None
        time.sleep(seconds_to_sleep)


def checkpoints_iterator(checkpoint_dir: str, min_interval_secs: float = 0, timeout: float | None = None,
                         timeout_fn: Callable[[], bool] | None = None) -> Iterator[str]:
    """Yields each new checkpoint of a folder.

    Args:
        min_interval_secs: at least so long between two.
        timeout: ends when none came for so many seconds, unless `timeout_fn` is given and returns False.
    """
    path = None
    while True:
        new = wait_for_new_checkpoint(checkpoint_dir, path, timeout=timeout)
        if new is None:
            if timeout_fn is None:
                logging.info("Timed-out waiting for a checkpoint.")
                return
            if timeout_fn():
                return
            continue
        start, path = time.time(), new
        yield path
        time.sleep(max(0.0, start + min_interval_secs - time.time()))


class StopAfterNEvalsHook(SessionRunHook):
    """Ends an evaluation after `num_evals` runs; None: never."""

    def __init__(self, num_evals: int | None, log_progress: bool = True):
        self._num_evals, self._log_progress = num_evals, log_progress
        self._evals_completed: Any = None
        self._every = 1 if num_evals is None or num_evals < 20 else math.floor(num_evals / 10.0)

    def _set_evals_completed_tensor(self, updated_eval_step: Any) -> None:
        self._evals_completed = updated_eval_step

    def before_run(self, run_context: Any) -> SessionRunArgs:
        return SessionRunArgs({"evals_completed": self._evals_completed})

    def after_run(self, run_context: Any, run_values: Any) -> None:
        done, n = run_values.results["evals_completed"], self._num_evals
        if self._log_progress and (n is None or done % self._every == 0 or n == done):
            logging.info("Evaluation [%d]" if n is None else "Evaluation [%d/%d]", *([done] if n is None else [done, n]))
        if n is not None and done >= n:
            run_context.request_stop()


class SummaryAtEndHook(SessionRunHook):
    """Writes summaries once, when an evaluation ends.

    Args:
        log_dir, summary_writer: where to; one of them.
        summary_op: all summaries of the graph by default.
        feed_dict: for it.

    Raises:
        ValueError: neither a folder nor a writer.
    """

    def __init__(self, log_dir: str | None = None, summary_writer: Any = None, summary_op: Any = None, feed_dict: Any = None):
        if log_dir is None and summary_writer is None:
            raise ValueError("One of log_dir or summary_writer should be used.")
        self._log_dir, self._summary_writer, self._feed_dict = log_dir, summary_writer, feed_dict
        self._summary_op, self._merge = summary_op, summary_op is None

    def begin(self) -> None:
        from ... import summary

        if self._merge:
            self._summary_op = summary.merge_all()
        self._global_step = get_or_create_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        from ... import summary

        if self._summary_writer is None:
            self._summary_writer = summary.FileWriterCache.get(self._log_dir)

    def end(self, session: Any) -> None:
        if self._summary_op is not None:
            step = global_step(session, self._global_step)
            self._summary_writer.add_summary(session.run(self._summary_op, self._feed_dict), step)
        self._summary_writer.flush()


def _counted(eval_ops: Any, hooks: list[Any]) -> Any:
    """The operations with one that counts, which the hooks look at."""
    if eval_ops is None:
        return None
    update = state.assign_add(get_or_create_eval_step(), 1)
    for hook in hooks:
        if isinstance(hook, StopAfterNEvalsHook):
            hook._set_evals_completed_tensor(update)
    if isinstance(eval_ops, dict):
        return {**eval_ops, "update_eval_step": update}
    return [*(eval_ops if isinstance(eval_ops, (list, tuple)) else [eval_ops]), update]


def _evaluate(path: str, master: str, scaffold: Any, config: Any, hooks: list[Any], eval_ops: Any, feed_dict: Any) -> None:
    creator = ChiefSessionCreator(scaffold=scaffold, checkpoint_filename_with_path=path, master=master, config=config)
    with MonitoredSession(session_creator=creator, hooks=hooks) as session:
        logging.info("Starting evaluation at %s", time.strftime("%Y-%m-%d-%H:%M:%S", time.gmtime()))
        while eval_ops is not None and not session.should_stop():
            session.run(eval_ops, feed_dict)
    logging.info("Finished evaluation at %s", time.strftime("%Y-%m-%d-%H:%M:%S", time.gmtime()))


def evaluate_once(checkpoint_path: str, master: str = "", scaffold: Scaffold | None = None, eval_ops: Any = None, feed_dict: Any = None,
                  final_ops: Any = None, final_ops_feed_dict: Any = None, hooks: Any = None, config: Any = None) -> Any:
    """Runs `eval_ops` on the values of a checkpoint until a hook stops it, then `final_ops`; returns the latter's values."""
    hooks = list(hooks or [])
    eval_ops = _counted(eval_ops, hooks)
    final = FinalOpsHook(final_ops, final_ops_feed_dict)
    _evaluate(checkpoint_path, master, scaffold, config, [*hooks, final], eval_ops, feed_dict)
    return final.final_ops_values


def evaluate_repeatedly(checkpoint_dir: str, master: str = "", scaffold: Scaffold | None = None, eval_ops: Any = None,
                        feed_dict: Any = None, final_ops: Any = None, final_ops_feed_dict: Any = None, eval_interval_secs: float = 60,
                        hooks: Any = None, config: Any = None, max_number_of_evaluations: int | None = None, timeout: float | None = None,
                        timeout_fn: Callable[[], bool] | None = None) -> Any:
    """`evaluate_once` for each new checkpoint of a folder; returns the last values of `final_ops`.

    Args:
        eval_interval_secs: at least so long between two evaluations.
        max_number_of_evaluations: ends after so many.
        timeout, timeout_fn: see `checkpoints_iterator`.
    """
    hooks = list(hooks or [])
    eval_ops = _counted(eval_ops, hooks)
    final = FinalOpsHook(final_ops, final_ops_feed_dict)
    for count, path in enumerate(checkpoints_iterator(checkpoint_dir, eval_interval_secs, timeout, timeout_fn), 1):
        _evaluate(path, master, scaffold, config, [*hooks, final], eval_ops, feed_dict)
        if max_number_of_evaluations is not None and count >= max_number_of_evaluations:
            break
    return final.final_ops_values
