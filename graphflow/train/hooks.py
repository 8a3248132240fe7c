"""The hooks of `tf.train`: stopping, logging, saving, counting.

Steps are counted by the global step as it is before a run, so that a hook knows when to look at it again after one.
"""
from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from .. import errors, graph
from ..graph import GraphKeys, Tensor
from ..platform import logging
from . import training_util
from .session_run_hook import SessionRunArgs, SessionRunHook


def step_before(what: str) -> Tensor:
    """The global step before a run's updates.  Raises RuntimeError when the graph has none."""
    step = training_util.get_global_step()
    if step is None:
        raise RuntimeError(f"Global step should be created to use {what}.")
    g = graph.get_default_graph()
    try:
        return g.get_tensor_by_name(f"{step.op.name}/read:0")  # made with the variable, so it reads before all writes
    except KeyError:
        return getattr(step, "handle", step)


def writer_of(folder: Any) -> Any:
    """The one writer of events of a folder."""
    from .. import summary

    return summary.FileWriterCache.get(folder)  # type: ignore[attr-defined]


def session_log(status: str, path: str = "") -> Any:
    from ..proto import SessionLog

    return SessionLog(status=getattr(SessionLog, status), checkpoint_path=path) if path else SessionLog(status=getattr(SessionLog, status))


def rate(tag: str, value: float) -> Any:
    """A summary of one number."""
    from ..proto import Summary

    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


# ---------------------------------------------------------------- timers


class SecondOrStepTimer:
    """Says when it is time again, every so many seconds or steps.

    Raises:
        ValueError: both or neither are given.
    """

    def __init__(self, every_secs: float | None = None, every_steps: int | None = None):
        if every_secs is None and every_steps is None:
            raise ValueError("Either every_secs or every_steps should be provided.")
        if every_secs is not None and every_steps is not None:
            raise ValueError("Can not provide both every_secs and every_steps.")
        self._every_secs, self._every_steps = every_secs, every_steps
        self.reset()

    def reset(self) -> None:
        self._last_triggered_step: int | None = None
        self._last_triggered_time: float | None = None

    def should_trigger_for_step(self, step: int) -> bool:
        """Whether it is time at `step`: the first time always, and never twice at one step."""
        if self._last_triggered_step is None or self._last_triggered_time is None:
            return True
        if step == self._last_triggered_step:
            return False
        if self._every_secs is not None:
            return time.time() >= self._last_triggered_time + self._every_secs
        return step >= self._last_triggered_step + self._every_steps  # type: ignore[operator]

    def update_last_triggered_step(self, step: int) -> tuple[Any, Any]:
        """Notes that it happened at `step`; (seconds, steps) since the time before, or Nones."""
        now, last, then = time.time(), self._last_triggered_step, self._last_triggered_time
        self._last_triggered_step, self._last_triggered_time = step, now
        return (None, None) if last is None or then is None else (now - then, step - last)

    def last_triggered_step(self) -> int | None:
        return self._last_triggered_step


class NeverTriggerTimer(SecondOrStepTimer):
    """Never."""

    def __init__(self) -> None:
        super().__init__(every_steps=1)

    def should_trigger_for_step(self, step: int) -> bool:
        return False

    def update_last_triggered_step(self, step: int) -> tuple[Any, Any]:
        return None, None


# ---------------------------------------------------------------- looking and stopping


class LoggingTensorHook(SessionRunHook):
    """Logs tensors (severity INFO) every so many runs or seconds, and at the end if asked.

    Args:
        tensors: {tag: tensor or name}, or a list of tensors and names.
        formatter: a function from {tag: value} to the text.

    Raises:
        ValueError: not exactly one of `every_n_iter` and `every_n_secs` (none is right with `at_end`), or no positive number.
    """

    def __init__(self, tensors: Any, every_n_iter: int | None = None, every_n_secs: float | None = None, at_end: bool = False,
                 formatter: Any = None):
        only_at_end = at_end and every_n_iter is None and every_n_secs is None
        if not only_at_end and (every_n_iter is None) == (every_n_secs is None):
            raise ValueError("either at_end and/or exactly one of every_n_iter and every_n_secs must be provided.")
        if every_n_iter is not None and every_n_iter <= 0:
            raise ValueError(f"invalid every_n_iter={every_n_iter}.")
        self._tag_order = sorted(tensors) if isinstance(tensors, dict) else list(tensors)
        self._tensors = dict(tensors) if isinstance(tensors, dict) else {t: t for t in tensors}
        self._formatter, self._log_at_end = formatter, at_end
        self._timer = NeverTriggerTimer() if only_at_end else SecondOrStepTimer(every_secs=every_n_secs, every_steps=every_n_iter)

    def begin(self) -> None:
        self._timer.reset()
        self._iter_count = 0
        self._current_tensors = {tag: _element(t) for tag, t in self._tensors.items()}

    def before_run(self, run_context: Any) -> SessionRunArgs | None:
        self._should_trigger = self._timer.should_trigger_for_step(self._iter_count)
        return SessionRunArgs(self._current_tensors) if self._should_trigger else None

    def _log_tensors(self, values: Any) -> None:
        seconds, _ = self._timer.update_last_triggered_step(self._iter_count)
        if self._formatter:
            logging.info(self._formatter(values))
            return
        with np.printoptions(suppress=True):
            text = ", ".join(f"{getattr(tag, 'name', tag) if not isinstance(tag, str) else tag} = {values[tag]}" for tag in self._tag_order)
        logging.info("%s", text if seconds is None else f"{text} ({seconds:.3f} sec)")

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self._should_trigger:
            self._log_tensors(run_values.results)
        self._iter_count += 1

    def end(self, session: Any) -> None:
        if self._log_at_end:
            self._log_tensors(session.run(self._current_tensors))


def _element(x: Any) -> Any:
    """A tensor of the default graph, or what the name means.  Raises ValueError on another graph's, and on ambiguous names."""
    g = graph.get_default_graph()
    if not isinstance(x, str):
        if getattr(x, "graph", None) is not g:
            raise ValueError(f"Passed {x!r} should have graph attribute that is equal to current graph {g!r}.")
        return x
    if ":" in x:
        return g.as_graph_element(x)
    op = g.get_operation_by_name(x)
    if len(op.outputs) != 1:
        raise ValueError(f"Name {x} is ambiguous: this operation has {len(op.outputs)} outputs; say which one, as {x + ':0'!r}.")
    return op.outputs[0]


class StopAtStepHook(SessionRunHook):
    """Asks for the end after `num_steps` more steps, or when the global step reaches `last_step`.

    Raises:
        ValueError: not exactly one of both.  RuntimeError (`begin`): the graph has no global step.
    """

    def __init__(self, num_steps: int | None = None, last_step: int | None = None):
        if num_steps is None and last_step is None:
            raise ValueError("One of num_steps or last_step must be specified.")
        if num_steps is not None and last_step is not None:
            raise ValueError("Only one of num_steps or last_step can be specified.")
        self._num_steps, self._last_step = num_steps, last_step

    def begin(self) -> None:
        self._global_step_tensor = step_before("StopAtStepHook")

    def after_create_session(self, session: Any, coord: Any) -> None:
        if self._last_step is None:
            self._last_step = int(session.run(self._global_step_tensor)) + self._num_steps  # type: ignore[operator]

    def before_run(self, run_context: Any) -> SessionRunArgs:
        return SessionRunArgs(self._global_step_tensor)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if run_values.results + 1 >= self._last_step and run_context.session.run(self._global_step_tensor) >= self._last_step:
            run_context.request_stop()


class NanLossDuringTrainingError(RuntimeError):
    """Raised by NanTensorHook."""

    def __str__(self) -> str:
        return "NaN loss during training."


class NanTensorHook(SessionRunHook):
    """Ends training when the loss is NaN: with NanLossDuringTrainingError, or quietly where `fail_on_nan_loss` is False."""

    def __init__(self, loss_tensor: Any, fail_on_nan_loss: bool = True):
        self._loss_tensor, self._fail_on_nan_loss = loss_tensor, fail_on_nan_loss

    def before_run(self, run_context: Any) -> SessionRunArgs:
        return SessionRunArgs(self._loss_tensor)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if not np.isnan(run_values.results):
            return
        if self._fail_on_nan_loss:
            logging.error("Model diverged with loss = NaN.")
            raise NanLossDuringTrainingError
        logging.warning("Model diverged with loss = NaN.")
        run_context.request_stop()


class GlobalStepWaiterHook(SessionRunHook):
    """Lets the first run wait until the global step has reached `wait_until_step`, by another thread's work."""

    def __init__(self, wait_until_step: int):
        self._wait_until_step = wait_until_step

    def begin(self) -> None:
        self._worker_is_started = False
        self._global_step_tensor = step_before("GlobalStepWaiterHook")

    def before_run(self, run_context: Any) -> None:
        if self._worker_is_started or self._wait_until_step <= 0:
            self._worker_is_started = True
            return
        logging.info("Waiting for global step %d before starting training.", self._wait_until_step)
        logged = 0
        while (step := run_context.session.run(self._global_step_tensor)) < self._wait_until_step:
            if step - logged > 1000:
                logging.info("Waiting for global step %d before starting training. Current step is %d.", self._wait_until_step, step)
                logged = step
            time.sleep(0.5)
        self._worker_is_started = True


class FinalOpsHook(SessionRunHook):
    """Runs `final_ops` at the end; `final_ops_values` has their values then."""

    def __init__(self, final_ops: Any, final_ops_feed_dict: Any = None):
        self._final_ops, self._final_ops_feed_dict = final_ops, final_ops_feed_dict
        self._final_ops_values: Any = None

    final_ops_values = property(lambda self: self._final_ops_values)

    def end(self, session: Any) -> None:
        if self._final_ops is None:
            return
        try:
            self._final_ops_values = session.run(self._final_ops, feed_dict=self._final_ops_feed_dict)
        except (errors.OutOfRangeError, StopIteration):
            logging.warning("The ops of a FinalOpsHook read input, which has ended: they should read variables only (of a metric its "
                            "value, not its update).")
            raise


class FeedFnHook(SessionRunHook):
    """Feeds what `feed_fn()` returns, in each run."""

    def __init__(self, feed_fn: Any):
        self.feed_fn = feed_fn

    def before_run(self, run_context: Any) -> SessionRunArgs:
        return SessionRunArgs(None, self.feed_fn())


# ---------------------------------------------------------------- writing


class CheckpointSaverListener:
    """What may be done around the saves of a CheckpointSaverHook; `after_save` returns True to end training."""

    def begin(self) -> None:
        """Before the session is made."""

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Before each save."""

    def after_save(self, session: Any, global_step_value: int) -> Any:
        """After each save."""

    def end(self, session: Any, global_step_value: int) -> None:
        """At the end."""


class CheckpointSaverHook(SessionRunHook):
    """Saves a checkpoint at the start, every so many steps or seconds, and at the end.

    Args:
        checkpoint_dir: the folder; made if it is not there.
        saver, scaffold: where the Saver comes from; else the one of the collection SAVERS.
        checkpoint_basename: the first part of the files' names.
        listeners: CheckpointSaverListeners.
        save_graph_def: also write the graph.

    Raises:
        ValueError: both `saver` and `scaffold`; not exactly one of `save_secs` and `save_steps`.
    """

    def __init__(self, checkpoint_dir: str, save_secs: float | None = None, save_steps: int | None = None, saver: Any = None,
                 checkpoint_basename: str = "model.ckpt", scaffold: Any = None, listeners: Any = None, save_graph_def: bool = True):
        logging.info("Create CheckpointSaverHook.")
        if saver is not None and scaffold is not None:
            raise ValueError("You cannot provide both saver and scaffold.")
        self._saver, self._scaffold, self._listeners, self._save_graph_def = saver, scaffold, listeners or [], save_graph_def
        self._checkpoint_dir, self._save_path = checkpoint_dir, os.path.join(checkpoint_dir, checkpoint_basename)
        self._timer = SecondOrStepTimer(every_secs=save_secs, every_steps=save_steps)
        self._steps_per_run = 1

    def _set_steps_per_run(self, steps_per_run: int) -> None:
        self._steps_per_run = steps_per_run

    def begin(self) -> None:
        self._summary_writer = writer_of(self._checkpoint_dir)
        self._global_step_tensor = step_before("CheckpointSaverHook")
        for listener in self._listeners:
            listener.begin()

    def after_create_session(self, session: Any, coord: Any) -> None:
        step = int(session.run(self._global_step_tensor))
        if self._save_graph_def:
            write_graph_text(self._checkpoint_dir)
        self._summary_writer.add_graph(graph.get_default_graph())
        self._save(session, step)
        self._timer.update_last_triggered_step(step)

    def before_run(self, run_context: Any) -> SessionRunArgs:
        return SessionRunArgs(self._global_step_tensor)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if not self._timer.should_trigger_for_step(run_values.results + self._steps_per_run):
            return
        step = int(run_context.session.run(self._global_step_tensor))
        if self._timer.should_trigger_for_step(step):
            self._timer.update_last_triggered_step(step)
            if self._save(run_context.session, step):
                run_context.request_stop()

    def end(self, session: Any) -> None:
        step = int(session.run(self._global_step_tensor))
        if step != self._timer.last_triggered_step():
            self._save(session, step)
        for listener in self._listeners:
            listener.end(session, step)

    def _save(self, session: Any, step: int) -> bool:
        """Whether a listener wants the end."""
        logging.info("Saving checkpoints for %d into %s.", step, self._save_path)
        for listener in self._listeners:
            listener.before_save(session, step)
        os.makedirs(self._checkpoint_dir or ".", exist_ok=True)
        self._get_saver().save(session, self._save_path, global_step=step, write_meta_graph=self._save_graph_def)
        self._summary_writer.add_session_log(session_log("CHECKPOINT", self._save_path), step)
        wants = [listener for listener in self._listeners if listener.after_save(session, step)]
        for listener in wants:
            logging.info("A CheckpointSaverListener requested that training be stopped. listener: %s", listener)
        return bool(wants)

    def _get_saver(self) -> Any:
        if self._saver is not None:
            return self._saver
        if self._scaffold is not None:
            return self._scaffold.saver
        savers = graph.get_default_graph().get_collection(GraphKeys.SAVERS)
        if len(savers) != 1:
            raise RuntimeError(f"{len(savers) or 'No'} items in collection {GraphKeys.SAVERS}. Please add a saver to the collection, or "
                               "provide a saver or scaffold.")
        self._saver = savers[0]
        return self._saver


def write_graph_text(folder: str) -> None:
    """Writes `graph.pbtxt`."""
    from ..graph_def import write_graph

    write_graph(graph.get_default_graph(), folder, "graph.pbtxt")


class StepCounterHook(SessionRunHook):
    """Counts steps per second, and writes them as the summary "<global step>/sec".

    Raises:
        ValueError: not exactly one of `every_n_steps` and `every_n_secs`.
    """

    def __init__(self, every_n_steps: int | None = 100, every_n_secs: float | None = None, output_dir: str | None = None,
                 summary_writer: Any = None):
        if (every_n_steps is None) == (every_n_secs is None):
            raise ValueError("exactly one of every_n_steps and every_n_secs should be provided.")
        self._timer = SecondOrStepTimer(every_steps=every_n_steps, every_secs=every_n_secs)
        self._summary_writer, self._output_dir = summary_writer, output_dir
        self._last_global_step: Any = None
        self._steps_per_run = 1

    def _set_steps_per_run(self, steps_per_run: int) -> None:
        self._steps_per_run = steps_per_run

    def begin(self) -> None:
        if self._summary_writer is None and self._output_dir:
            self._summary_writer = writer_of(self._output_dir)
        self._global_step_tensor = step_before("StepCounterHook")
        self._summary_tag = training_util.get_global_step().op.name + "/sec"

    def before_run(self, run_context: Any) -> SessionRunArgs:
        return SessionRunArgs(self._global_step_tensor)

    def _log_and_record(self, elapsed_steps: int, elapsed_time: float, global_step: int) -> None:
        found = elapsed_steps / max(elapsed_time, 1e-9)
        if self._summary_writer is not None:
            self._summary_writer.add_summary(rate(self._summary_tag, found), global_step)
        logging.info("%s: %g", self._summary_tag, found)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        before = run_values.results
        if self._timer.should_trigger_for_step(before + self._steps_per_run):
            step = int(run_context.session.run(self._global_step_tensor))
            if self._timer.should_trigger_for_step(step):
                seconds, steps = self._timer.update_last_triggered_step(step)
                if seconds is not None:
                    self._log_and_record(steps, seconds, step)
        if before == self._last_global_step:
            logging.log_first_n(logging.WARN, "The global step has not changed since the run before: it is %s. Pass "
                                "tf.train.get_global_step() to Optimizer.minimize or apply_gradients to have it counted.", 5, before)
        self._last_global_step = before


class SummarySaverHook(SessionRunHook):
    """Writes summaries every so many steps or seconds, and at the first run.

    Raises:
        ValueError: not exactly one of `scaffold` and `summary_op`; not exactly one of `save_steps` and `save_secs`.
    """

    def __init__(self, save_steps: int | None = None, save_secs: float | None = None, output_dir: str | None = None,
                 summary_writer: Any = None, scaffold: Any = None, summary_op: Any = None):
        if (scaffold is None) == (summary_op is None):
            raise ValueError("Exactly one of scaffold or summary_op must be provided.")
        self._summary_op, self._scaffold = summary_op, scaffold
        self._summary_writer, self._output_dir = summary_writer, output_dir
        self._timer = SecondOrStepTimer(every_secs=save_secs, every_steps=save_steps)

    def begin(self) -> None:
        if self._summary_writer is None and self._output_dir:
            self._summary_writer = writer_of(self._output_dir)
        self._next_step: int | None = None
        self._global_step_tensor = step_before("SummarySaverHook")

    def before_run(self, run_context: Any) -> SessionRunArgs:
        self._request_summary = self._next_step is None or self._timer.should_trigger_for_step(self._next_step)
        ops = self._get_summary_op() if self._request_summary else None
        return SessionRunArgs({"global_step": self._global_step_tensor, **({} if ops is None else {"summary": ops})})

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if not self._summary_writer:
            return
        step = int(run_values.results["global_step"]) + 1
        if self._request_summary:
            step = int(run_context.session.run(self._global_step_tensor))
        if self._next_step is None:
            self._summary_writer.add_session_log(session_log("START"), step)
        if self._request_summary:
            self._timer.update_last_triggered_step(step)
            for text in run_values.results.get("summary", ()):
                self._summary_writer.add_summary(text, step)
        self._next_step = step + 1

    def end(self, session: Any = None) -> None:
        if self._summary_writer:
            self._summary_writer.flush()

    def _get_summary_op(self) -> Any:
        found = self._summary_op if self._summary_op is not None else self._scaffold.summary_op
        return found if found is None or isinstance(found, list) else [found]


class ProfilerHook(SessionRunHook):
    """Traces a run every so many steps or seconds, and writes `timeline-<step>.json` for chrome://tracing.

    Raises:
        ValueError: not exactly one of `save_steps` and `save_secs`.
    """

    def __init__(self, save_steps: int | None = None, save_secs: float | None = None, output_dir: str = "", show_dataflow: bool = True,
                 show_memory: bool = False):
        self._output_file = os.path.join(output_dir, "timeline-{}.json")
        self._output_dir, self._show_dataflow, self._show_memory = output_dir, show_dataflow, show_memory
        self._timer = SecondOrStepTimer(every_secs=save_secs, every_steps=save_steps)

    def begin(self) -> None:
        self._next_step: int | None = None
        self._global_step_tensor = step_before("ProfilerHook")
        self._file_writer = writer_of(self._output_dir or ".")

    def before_run(self, run_context: Any) -> SessionRunArgs:
        from ..config import RunOptions

        self._request_trace = self._next_step is not None and self._timer.should_trigger_for_step(self._next_step)
        options = RunOptions(trace_level=RunOptions.FULL_TRACE) if self._request_trace else None
        return SessionRunArgs({"global_step": self._global_step_tensor}, options=options)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        before = int(run_values.results["global_step"])
        if self._next_step is None:
            self._timer.update_last_triggered_step(before)
        step = before + 1
        if self._request_trace:
            step = int(run_context.session.run(self._global_step_tensor))
            self._timer.update_last_triggered_step(step)
            self._save(step, self._output_file.format(step), run_values.run_metadata.step_stats)
            self._file_writer.add_run_metadata(run_values.run_metadata, f"step_{step}")
        self._next_step = step + 1

    def _save(self, step: int, save_path: str, step_stats: Any) -> None:
        from ..debug.timeline import Timeline

        logging.info("Saving timeline for %d into '%s'.", step, save_path)
        text = Timeline(step_stats).generate_chrome_trace_format(show_dataflow=self._show_dataflow, show_memory=self._show_memory)
        with open(save_path, "w", encoding="utf-8") as f:
            f.write(text)
