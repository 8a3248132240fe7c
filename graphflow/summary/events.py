"""Reading event files."""
from __future__ import annotations

from typing import Any, Iterator

from .. import errors
from ..proto import DecodeError, Event, records

__all__ = ["summary_iterator"]


def summary_iterator(path: Any) -> Iterator[Any]:
    """The `Event`s of an event file, in their order.

    Raises:
        NotFoundError: no such file.  DataLossError: it is damaged, or ends within an event; says at which byte.
    """
    for offset, record in records.read_records(path):
        try:
            yield Event.FromString(record)
        except DecodeError as e:
            raise errors.DataLossError(None, None, f"no event in the record at {offset} of {path}: {e}") from None
