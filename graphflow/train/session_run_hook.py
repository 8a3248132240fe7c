"""What a hook is: code around each `run` of a monitored session."""
from __future__ import annotations

from typing import Any, NamedTuple


class SessionRunArgs(NamedTuple):
    """What a hook adds to a run: fetches (in any nesting), feeds, options."""

    fetches: Any
    feed_dict: Any = None
    options: Any = None


class SessionRunValues(NamedTuple):
    """What a hook gets back: `results` in the nesting of its fetches, the run's options and metadata."""

    results: Any
    options: Any
    run_metadata: Any


class SessionRunContext:
    """What a hook knows of a run: `original_args` of the caller, the plain `session`, and how to ask for the end."""

    def __init__(self, original_args: SessionRunArgs, session: Any):
        self._original_args, self._session = original_args, session
        self._stop_requested = False

    original_args = property(lambda self: self._original_args)
    session = property(lambda self: self._session)
    stop_requested = property(lambda self: self._stop_requested)

    def request_stop(self) -> None:
        """From now on `should_stop()` of the monitored session is True."""
        self._stop_requested = True


class SessionRunHook:
    """Base class: every method may be overridden, and does nothing here.

    `begin` may add to the graph; after it the graph is finalized.  `end` is not called when a run raised.
    """

    def begin(self) -> None:
        """Before the session is made."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        """After a session was made, or made again."""

    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs | None:
        """Before each run; returns what to add to it."""
        return None

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        """After each run."""

    def end(self, session: Any) -> None:
        """When the monitored session closes without an error."""
