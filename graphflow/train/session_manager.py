"""Making a session whose variables have values: from a checkpoint, or by an initializer."""
from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import errors, graph
from ..platform import logging
from ..session import Session
from . import checkpoint


class SessionManager:
    """Makes sessions.

    Args:
        local_init_op: run in every new session, after the variables have values.
        ready_op: a vector of names of variables without values; None asks nothing.
        ready_for_local_init_op: the same, asked before `local_init_op`.
        graph: the default graph by default.
        recovery_wait_secs: seconds between two looks of one that waits.
        local_init_run_options, local_init_feed_dict: how `local_init_op` is run.

    Raises:
        ValueError: `ready_for_local_init_op` without `local_init_op`.
    """

    def __init__(self, local_init_op: Any = None, ready_op: Any = None, ready_for_local_init_op: Any = None, graph: Any = None,
                 recovery_wait_secs: float = 30, local_init_run_options: Any = None, local_init_feed_dict: Any = None):
        if ready_for_local_init_op is not None and local_init_op is None:
            raise ValueError("If you pass a ready_for_local_init_op you must also pass a local_init_op, ready_for_local_init_op "
                             f"[{ready_for_local_init_op!r}]")
        self._local_init_op, self._ready_op, self._ready_for_local_init_op = local_init_op, ready_op, ready_for_local_init_op
        self._graph = _default() if graph is None else graph
        self._recovery_wait_secs = recovery_wait_secs
        self._options, self._feeds = local_init_run_options, local_init_feed_dict

    def _restored(self, master: str, saver: Any, folder: Any, path: Any, wait: bool, most: float, config: Any) -> tuple[Session, bool]:
        """(a session, whether its variables come from a checkpoint)."""
        sess = Session(master, graph=self._graph, config=config)
        if folder and path:
            raise ValueError("Can not provide both checkpoint_dir and checkpoint_filename_with_path.")
        if saver is None or not (folder or path):
            return sess, False
        if path:
            saver.restore(sess, path)
            return sess, True
        end = time.time() + most
        while (found := checkpoint.get_checkpoint_state(folder)) is None:
            if not wait or time.time() >= end:
                return sess, False
            logging.info("Waiting for checkpoint to be available.")
            time.sleep(self._recovery_wait_secs)
        saver.restore(sess, found.model_checkpoint_path)
        saver.recover_last_checkpoints(found.all_model_checkpoint_paths)
        return sess, True

    def prepare_session(self, master: str = "", init_op: Any = None, saver: Any = None, checkpoint_dir: Any = None,
                        checkpoint_filename_with_path: Any = None, wait_for_checkpoint: bool = False, max_wait_secs: float = 7200,
                        config: Any = None, init_feed_dict: Any = None, init_fn: Any = None) -> Session:
        """A session that is ready: restored where there is a checkpoint, else by `init_op` and `init_fn(session)`.

        Raises:
            RuntimeError: there is nothing to initialize with, or variables have no values afterwards.
        """
        sess, restored = self._restored(master, saver, checkpoint_dir, checkpoint_filename_with_path, wait_for_checkpoint, max_wait_secs,
                                        config)
        if not restored:
            if init_op is None and not init_fn and self._local_init_op is None:
                raise RuntimeError("Model is not initialized and no init_op or init_fn or local_init_op was given")
            if init_op is not None:
                sess.run(init_op, feed_dict=init_feed_dict)
            if init_fn:
                init_fn(sess)
        given = f"Init op: {_names(init_op)}, init fn: {init_fn}"
        if why := self._local_init(sess):
            raise RuntimeError(f"Init operations did not make model ready for local_init.  {given}, error: {why}")
        if why := _missing(self._ready_op, sess, "Model not ready"):
            raise RuntimeError(f"Init operations did not make model ready.  {given}, local_init_op: {_names(self._local_init_op)}, "
                               f"error: {why}")
        return sess

    def recover_session(self, master: str = "", saver: Any = None, checkpoint_dir: Any = None, checkpoint_filename_with_path: Any = None,
                        wait_for_checkpoint: bool = False, max_wait_secs: float = 7200, config: Any = None) -> tuple[Session, bool]:
        """(a session, whether a checkpoint made it ready)."""
        sess, restored = self._restored(master, saver, checkpoint_dir, checkpoint_filename_with_path, wait_for_checkpoint, max_wait_secs,
                                        config)
        why = self._local_init(sess)
        if not restored:
            return sess, False
        why = why or _missing(self._ready_op, sess, "Model not ready")
        source = checkpoint_dir or checkpoint_filename_with_path
        if why:
            logging.info("Restoring model from %s did not make model ready: %s", source, why)
            return sess, False
        logging.info("Restored model from %s", source)
        return sess, True

    def wait_for_session(self, master: str = "", config: Any = None, max_wait_secs: float | None = float("inf")) -> Session:
        """A session that is ready, once it is; variables live in one session, so only those that need no initializer ever are.

        Raises:
            DeadlineExceededError: it was not after `max_wait_secs`.
        """
        most = float("inf") if max_wait_secs is None else max_wait_secs
        end = time.time() + most
        while True:
            sess = Session(master, graph=self._graph, config=config)
            why = self._local_init(sess) or _missing(self._ready_op, sess, "Model not ready")
            if not why:
                return sess
            sess.close()
            if time.time() + self._recovery_wait_secs > end:
                raise errors.DeadlineExceededError(None, None, f"Session was not ready after waiting {most:g} secs: {why}")
            logging.info("Waiting for model to be ready: %s", why)
            time.sleep(self._recovery_wait_secs)

    def _local_init(self, sess: Session) -> str:
        """Runs the local initializer where the model is ready for it; else says why not."""
        if self._local_init_op is None:
            return ""
        why = _missing(self._ready_for_local_init_op, sess, "Model not ready for local init")
        if not why:
            logging.info("Running local_init_op.")
            sess.run(self._local_init_op, feed_dict=self._feeds, options=self._options)
            logging.info("Done running local_init_op.")
        return why


def _default() -> Any:
    return graph.get_default_graph()


def _names(op: Any) -> Any:
    return [o.name for o in op] if isinstance(op, (list, tuple)) else getattr(op, "name", op)


def _missing(op: Any, sess: Session, what: str) -> str:
    """What `op` says is not initialized; "" when nothing is."""
    if op is None:
        return ""
    try:
        found = sess.run(op)
    except errors.FailedPreconditionError as e:
        if "uninitialized" not in str(e):
            logging.warning("%s : error [%s]", what, e)
            raise
        return str(e)
    if found is None or np.asarray(found).dtype.kind in "iu" or np.size(found) == 0:
        return ""
    return "Variables not initialized: " + ", ".join(n.decode() if isinstance(n, bytes) else str(n) for n in np.ravel(found))
