"""The engine: iterators over the elements of datasets.

A stream gives one element after another (a tuple of leaf values) and raises `End` when there is none; after any other error the
next call goes on with the next element.  Where elements are rows of a table (slices, shuffled, repeated, zipped), a stream gives
the numbers of many rows at once instead, and a batch is gathered from the table in one go.  Knows no graph (rank 9).
"""
from __future__ import annotations

import collections
import os
import queue
import threading
import time
import weakref
from concurrent.futures import Future
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from .. import locks

Element = tuple[Any, ...]
AHEAD = 256  # row numbers taken at once by a consumer of single elements


class End(Exception):
    """No more elements; asking again raises it again."""


class Stream:
    """Elements, one by one."""

    table: Any = None  # where elements are rows of a table: then `refs` works too; a stream is read in one of the two ways
    inputs: Sequence[Stream] = ()

    def next(self) -> Element:
        raise NotImplementedError

    def refs(self, n: int) -> np.ndarray:
        """Numbers of the next rows of `table`, at least one and at most `n`."""
        raise NotImplementedError

    def close(self) -> None:
        for s in self.inputs:
            s.close()

    def __iter__(self) -> Iterator[Element]:
        while True:
            try:
                yield self.next()
            except End:
                return


class Rows(Stream):
    """A stream that is read by row numbers, if need be one by one."""

    _ahead: Iterator[Any] = iter(())

    def next(self) -> Element:
        for i in self._ahead:
            return self.table.row(i)
        self._ahead = iter(self.refs(AHEAD))
        return self.table.row(next(self._ahead))


def rowless(s: Stream) -> Stream:
    """The stream read one by one, also where it has a table."""
    if s.table is None:
        return s
    found = Stream()
    found.inputs, found.next = (s,), s.next  # type: ignore[method-assign]
    return found


# ---------------------------------------------------------------- tables: `gather(numbers)` and `row(number)` are elements


class Table:
    """What rows are taken from."""

    width = 1  # a row's number is so many numbers
    works = False  # whether making a row is more than copying it


class Slices(Table):
    """Rows of arrays."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.arrays = arrays

    def gather(self, ids: np.ndarray) -> Element:
        return tuple([a.take(ids, 0) for a in self.arrays])

    def row(self, i: Any) -> Element:
        return tuple([a[i] if a.ndim > 1 else _scalar(a, i) for a in self.arrays])


def _scalar(a: np.ndarray, i: Any) -> np.ndarray:
    found = np.empty((), a.dtype)
    found[()] = a[i]
    return found


class Steps(Table):
    """The numbers `start + i * step`."""

    def __init__(self, start: int, step: int):
        self.start, self.step = start, step

    def gather(self, ids: np.ndarray) -> Element:
        return self.start + ids * self.step,

    def row(self, i: Any) -> Element:
        return np.array(self.start + int(i) * self.step, np.int64),


class Zipped(Table):
    """Rows of several tables side by side: numbers are rows of numbers."""

    def __init__(self, tables: Sequence[Any]):
        self.tables = tables
        widths = [t.width for t in tables]
        self.width, self.works = sum(widths), any(t.works for t in tables)
        starts = np.cumsum([0, *widths])
        self.columns = [int(a) if w == 1 else slice(int(a), int(a + w)) for a, w in zip(starts, widths)]

    def gather(self, ids: np.ndarray) -> Element:
        return tuple([v for t, c in zip(self.tables, self.columns) for v in t.gather(ids[:, c])])

    def row(self, i: Any) -> Element:
        return tuple([v for t, c in zip(self.tables, self.columns) for v in t.row(i[c])])


class Mapped(Table):
    """A table with an elementwise function applied to each row; many rows by one call."""

    def __init__(self, table: Any, one: Callable[[Element], Element], many: Callable[[Element], Element]):
        self.table, self.one, self.many = table, one, many
        self.width, self.works = table.width, True

    def gather(self, ids: np.ndarray) -> Element:
        return self.many(self.table.gather(ids))

    def row(self, i: Any) -> Element:
        return self.one(self.table.row(i))


# ---------------------------------------------------------------- sources


class Count(Rows):
    """Rows 0 .. n - 1 of a table."""

    def __init__(self, table: Any, n: int):
        self.table, self.n, self.at = table, n, 0

    def refs(self, n: int) -> np.ndarray:
        if self.at >= self.n:
            raise End
        start, self.at = self.at, min(self.n, self.at + n)
        return np.arange(start, self.at)


class Given(Stream):
    """Elements of a list."""

    def __init__(self, elements: Sequence[Element]):
        self.elements, self.at = elements, 0

    def next(self) -> Element:
        if self.at >= len(self.elements):
            raise End
        self.at += 1
        return self.elements[self.at - 1]


class Pulled(Stream):
    """Elements of a Python iterator that is made at the first call; `convert` makes an element of what it yields."""

    def __init__(self, make: Callable[[], Iterator[Any]], convert: Callable[[Any], Element], failed: Callable[[Exception], Exception]):
        self.make, self.convert, self.failed, self.over = make, convert, failed, False
        self.source: Iterator[Any] | None = None

    def next(self) -> Element:
        if self.over:
            raise End
        try:
            if self.source is None:
                self.source = iter(self.make())
            value = next(self.source)
        except StopIteration:
            self.over = True
            raise End from None
        except Exception as e:
            raise self.failed(e) from e
        return self.convert(value)

    def close(self) -> None:
        self.over = True
        done, self.source = getattr(self.source, "close", None), None
        if done is not None:
            try:
                done()
            except ValueError:  # it is running in another thread, which ends with it
                pass


# ---------------------------------------------------------------- choosing and ordering


def upto(s: Stream, n: int) -> tuple[list[Any], bool]:
    """(at most `n` elements or row numbers, whether the stream has ended)."""
    found: list[Any] = []
    try:
        while len(found) < n:
            if s.table is not None:
                found.extend(s.refs(n - len(found)).tolist())
            else:
                found.append(s.next())
    except End:
        return found, True
    return found, False


class Shuffle(Rows):
    """Each time a random one of the next `size` elements of the input."""

    def __init__(self, s: Stream, size: int, rng: np.random.Generator):
        self.inputs, self.table, self.size, self.rng = (s,), s.table, size, rng
        self.kept: list[Any] = []
        self.hole: int | None = None  # the place of the element that has left last
        self.full = self.ended = False
        self.next = super().next if s.table is not None else self._element  # type: ignore[method-assign]

    def _fill(self) -> None:
        s = self.inputs[0]
        try:
            while len(self.kept) < self.size:
                if s.table is not None:
                    self.kept += s.refs(self.size - len(self.kept)).tolist()
                else:
                    self.kept.append(s.next())
        except End:
            self._mix()
        self.full = True

    def _mix(self) -> None:
        """The rest of the elements, put into the order in which they leave."""
        if self.hole is not None:
            del self.kept[self.hole]
        order = self.rng.permutation(len(self.kept))
        self.kept = [self.kept[i] for i in order]
        self.kept.reverse()
        self.ended = True

    def _take(self, n: int) -> list[Any]:
        if not self.full:
            self._fill()
        out: list[Any] = []
        if not self.ended:
            first = self.hole is None
            new, ended = upto(self.inputs[0], n - first)
            kept, hole = self.kept, self.hole
            places = (self.rng.random(len(new) + first) * len(kept)).astype(np.int64).tolist()
            for place, x in zip(places, [kept[0], *new] if first else new):
                if hole is not None:
                    kept[hole] = x
                out.append(kept[place])
                hole = place
            self.hole = hole
            if ended:
                self._mix()
            if out:
                return out
        if not self.kept:
            raise End
        out = self.kept[-n:]
        out.reverse()
        del self.kept[-n:]
        return out

    def _element(self) -> Element:
        return self._take(1)[0]

    def refs(self, n: int) -> np.ndarray:
        return np.array(self._take(n), np.int64)


class Repeat(Rows):
    """The input again and again, `count` times or (-1) without end."""

    def __init__(self, make: Callable[[], Stream], count: int):
        self.make, self.left = make, count
        self.current: Stream | None = make() if count else None
        self.table = self.current.table if self.current else None
        self.fresh = True
        if self.table is None:
            self.next = lambda: self._again(lambda s: s.next())  # type: ignore[method-assign]

    def _again(self, take: Callable[[Stream], Any]) -> Any:
        while True:
            if self.current is None:
                if not self.left:
                    raise End
                self.current, self.fresh = self.make(), True
            try:
                found = take(self.current)
                self.fresh = False
                return found
            except End:
                self.current.close()
                self.current = None
                self.left = 0 if self.left < 0 and self.fresh else self.left - 1
            except Exception:
                self.fresh = False
                raise

    def refs(self, n: int) -> np.ndarray:
        return self._again(lambda s: s.refs(n))

    def close(self) -> None:
        self.left = 0
        if self.current is not None:
            self.current.close()
            self.current = None


class Take(Rows):
    """The first `n` elements, or (negative) all."""

    def __init__(self, s: Stream, n: int):
        self.inputs, self.table, self.left = (s,), s.table, n if n >= 0 else 1 << 62
        if s.table is None:
            self.next = self._element  # type: ignore[method-assign]

    def _element(self) -> Element:
        if self.left <= 0:
            raise End
        found = self.inputs[0].next()
        self.left -= 1
        return found

    def refs(self, n: int) -> np.ndarray:
        if self.left <= 0:
            raise End
        found = self.inputs[0].refs(min(n, self.left))
        self.left -= len(found)
        return found


class Skip(Rows):
    """All but the first `n` elements; none at all for a negative number."""

    def __init__(self, s: Stream, n: int):
        self.inputs, self.table, self.left = (s,), s.table, n if n >= 0 else 1 << 62
        if s.table is None:
            self.next = self._element  # type: ignore[method-assign]

    def _element(self) -> Element:
        while self.left > 0:
            self.inputs[0].next()
            self.left -= 1
        return self.inputs[0].next()

    def refs(self, n: int) -> np.ndarray:
        while self.left > 0:
            self.left -= len(self.inputs[0].refs(min(self.left, 1 << 16)))
        return self.inputs[0].refs(n)


class Shard(Rows):
    """Elements number `index`, `index + n`, ..."""

    def __init__(self, s: Stream, n: int, index: int):
        self.inputs, self.table, self.n, self.wait = (s,), s.table, n, index
        if s.table is None:
            self.next = self._element  # type: ignore[method-assign]

    def _element(self) -> Element:
        while True:
            found = self.inputs[0].next()
            self.wait -= 1
            if self.wait < 0:
                self.wait += self.n
                return found

    def refs(self, n: int) -> np.ndarray:
        while True:
            found = self.inputs[0].refs(n * self.n)
            mine = found[self.wait::self.n]
            self.wait = (self.wait - len(found)) % self.n
            if len(mine):
                return mine


class Zip(Rows):
    """Elements of all inputs side by side, until one of them ends."""

    def __init__(self, streams: Sequence[Stream]):
        self.inputs = streams
        if all(s.table is not None for s in streams):
            self.table = Zipped([s.table for s in streams])
        else:
            self.next = self._element  # type: ignore[method-assign]
        self.over = False

    def _element(self) -> Element:
        if self.over:
            raise End
        try:
            return tuple([v for s in self.inputs for v in s.next()])
        except End:
            self.over = True
            raise

    def refs(self, n: int) -> np.ndarray:
        if self.over:
            raise End
        found = []
        for s in self.inputs:
            got, ended = upto(s, n)
            self.over |= ended
            n = min(n, len(got))
            if not n:
                raise End
            found.append(np.array(got, np.int64).reshape(len(got), -1))
        return np.concatenate([x[:n] for x in found], 1)


class Chain(Stream):
    """One input after another; each is made when the one before has ended."""

    def __init__(self, makes: Sequence[Callable[[], Stream]]):
        self.makes = collections.deque(makes)
        self.current: Stream | None = None

    def next(self) -> Element:
        while True:
            if self.current is None:
                if not self.makes:
                    raise End
                self.current = self.makes.popleft()()
            try:
                return self.current.next()
            except End:
                self.current.close()
                self.current = None

    def close(self) -> None:
        self.makes.clear()
        if self.current is not None:
            self.current.close()


class Filter(Stream):
    """Elements for which `keep` is true."""

    def __init__(self, s: Stream, keep: Callable[[Element], Any]):
        self.inputs, self.keep = (s,), keep

    def next(self) -> Element:
        while True:
            found = self.inputs[0].next()
            if self.keep(found):
                return found


class IgnoreErrors(Stream):
    """Elements whose making fails are left out."""

    def __init__(self, s: Stream, kind: type[Exception]):
        self.inputs, self.kind = (s,), kind

    def next(self) -> Element:
        while True:
            try:
                return self.inputs[0].next()
            except self.kind:
                continue


# ---------------------------------------------------------------- functions of elements


class Map(Stream):
    """`call(element)`."""

    def __init__(self, s: Stream, call: Callable[[Element], Element]):
        self.inputs, self.call = (s,), call

    def next(self) -> Element:
        return self.call(self.inputs[0].next())


class MapRows(Rows):
    """A function of rows that many rows may be given to at once."""

    def __init__(self, s: Stream, one: Callable[[Element], Element], many: Callable[[Element], Element]):
        self.inputs, self.table = (s,), Mapped(s.table, one, many)
        self.refs = s.refs  # type: ignore[method-assign]


class Either(Rows):
    """Rows, or where single elements are wanted those of `make()`, in threads."""

    def __init__(self, rows: Stream, make: Callable[[], Stream]):
        self.inputs, self.table, self.make = (rows,), rows.table, make
        self.refs = rows.refs  # type: ignore[method-assign]
        self.single: Stream | None = None

    def next(self) -> Element:
        if self.single is None:
            self.single = self.make()
        return self.single.next()

    def close(self) -> None:
        super().close()
        if self.single is not None:
            self.single.close()


class Pool:
    """Daemon threads that call functions; they end when nobody holds the pool."""

    def __init__(self, n: int, make: Callable[[], Callable[..., Any]]):
        self.tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.make, self.own = make, None
        self.pid = os.getpid()
        self.times: collections.deque[float] = collections.deque(maxlen=8)  # what the last calls took
        for _ in range(n):
            threading.Thread(target=_serve, args=(self.tasks, make, self.times), daemon=True, name="graphflow-data").start()
        weakref.finalize(self, _dismiss, self.tasks, n)

    def submit(self, *args: Any) -> tuple[Future, tuple[Any, ...]]:
        future: Future = Future()
        if self.pid == os.getpid():
            self.tasks.put((future, args))
        return future, args

    def result(self, task: tuple[Future, tuple[Any, ...]]) -> Any:
        future, args = task
        if self.pid == os.getpid() or future.done():
            return future.result()
        return self.here(*args)  # a fork of the process that has the threads

    def here(self, *args: Any) -> Any:
        """A call in this thread."""
        if self.own is None:
            self.own = self.make()  # type: ignore[assignment]
        start = time.perf_counter()
        found = self.own(*args)  # type: ignore[misc]
        self.times.append(time.perf_counter() - start)
        return found

    def short(self) -> bool:
        """Whether calls take less than handing them to a thread does."""
        times = sorted(self.times)  # some of a short function are long: it has waited for its turn
        return len(times) == 8 and times[0] < 2e-4 and times[4] < 1e-3


def _dismiss(tasks: Any, n: int) -> None:
    for _ in range(n):
        tasks.put(None)


def _serve(tasks: Any, make: Callable[[], Callable[..., Any]], times: Any) -> None:
    call = None
    while True:
        task = tasks.get()
        if task is None:
            return
        future, args = task
        del task
        try:
            if call is None:
                call = make()
            start = time.perf_counter()
            found = call(*args)
            times.append(time.perf_counter() - start)
            future.set_result(found)
            del found
        except BaseException as e:
            future.set_exception(e)
        del future, args


class ParallelMap(Stream):
    """`call(number, element)` in `n` threads, in order, unless it is too short for that; `number()` counts elements."""

    def __init__(self, s: Stream, n: int, number: Callable[[], int], make: Callable[[], Callable[..., Element]], ahead: int | None = None):
        self.inputs, self.number, self.pool = (s,), number, Pool(n, make)
        self.ahead = ahead or n
        self.going: collections.deque[Any] = collections.deque()
        self.over = False

    def next(self) -> Element:
        short = self.pool.short()
        if short and not self.going and not self.over:
            found = self.inputs[0].next()
            return self.pool.here(self.number(), found)
        while not short and not self.over and len(self.going) < self.ahead:
            try:
                found = self.inputs[0].next()
                self.going.append(self.pool.submit(self.number(), found))
            except End:
                self.over = True
            except Exception as e:
                failed: Future = Future()
                failed.set_exception(e)
                self.going.append((failed, ()))
        if not self.going:
            raise End
        return self.pool.result(self.going.popleft())


class Flat(Stream):
    """The elements of the streams that `make` makes of each element."""

    def __init__(self, s: Stream, make: Callable[[Element], Stream]):
        self.inputs, self.make = (s,), make
        self.current: Stream | None = None

    def next(self) -> Element:
        while True:
            if self.current is None:
                self.current = self.make(self.inputs[0].next())
            try:
                return self.current.next()
            except End:
                self.current.close()
                self.current = None

    def close(self) -> None:
        super().close()
        if self.current is not None:
            self.current.close()


class Interleave(Stream):
    """`block` elements of each of `cycle` streams in turn; a new stream takes the place of one that has ended."""

    def __init__(self, s: Stream, make: Callable[[Element], Stream], cycle: int, block: int):
        self.inputs, self.make, self.block = (s,), make, block
        self.slots: list[Stream | None] = [None] * cycle
        self.at = self.given = 0
        self.over = False

    def _advance(self) -> None:
        self.at, self.given = (self.at + 1) % len(self.slots), 0

    def next(self) -> Element:
        while not self.over or any(s is not None for s in self.slots):
            slot = self.slots[self.at]
            if slot is None:
                if not self.over:
                    try:
                        self.slots[self.at] = self.make(self.inputs[0].next())
                    except End:
                        self.over = True
                        self._advance()
                else:
                    self._advance()
                continue
            try:
                found = slot.next()
            except End:
                slot.close()
                self.slots[self.at] = None
                self._advance()
                continue
            self.given += 1
            if self.given == self.block:
                self._advance()
            return found
        raise End

    def close(self) -> None:
        super().close()
        for s in self.slots:
            if s is not None:
                s.close()


class Scan(Stream):
    """`step(state, element) -> (state, output)`."""

    def __init__(self, s: Stream, state: Element, step: Callable[[Element, Element], tuple[Element, Element]]):
        self.inputs, self.state, self.step = (s,), state, step

    def next(self) -> Element:
        self.state, found = self.step(self.state, self.inputs[0].next())
        return found


class Whenever(Stream):
    """Elements while `more(element)` holds."""

    def __init__(self, s: Stream, more: Callable[[Element], Any]):
        self.inputs, self.more, self.over = (s,), more, False

    def next(self) -> Element:
        if self.over:
            raise End
        found = self.inputs[0].next()
        if not self.more(found):
            self.over = True
            raise End
        return found


# ---------------------------------------------------------------- many to one, one to many


class Batch(Stream):
    """`n` elements as one; `stack(elements)` makes it."""

    def __init__(self, s: Stream, n: int, drop: bool, stack: Callable[[list[Element]], Element]):
        self.inputs, self.n, self.drop, self.stack = (s,), n, drop, stack
        if s.table is not None:
            self.next = self._gather  # type: ignore[method-assign]

    def next(self) -> Element:
        rows, _ = upto(self.inputs[0], self.n)
        if not rows or self.drop and len(rows) < self.n:
            raise End
        return self.stack(rows)

    def _gather(self) -> Element:
        s, found, need = self.inputs[0], [], self.n
        try:
            while need:
                found.append(s.refs(need))
                need -= len(found[-1])
        except End:
            if not found or self.drop:
                raise End from None
        return s.table.gather(found[0] if len(found) == 1 else np.concatenate(found))


class Unbatch(Stream):
    """The rows of each element; `rows(element)` is their number, `row(element, i)` one of them."""

    def __init__(self, s: Stream, rows: Callable[[Element], int], row: Callable[[Element, int], Element]):
        self.inputs, self.rows, self.row = (s,), rows, row
        self.at = self.count = 0
        self.current: Element = ()

    def next(self) -> Element:
        while self.at >= self.count:
            self.current = self.inputs[0].next()
            self.at, self.count = 0, self.rows(self.current)
        self.at += 1
        return self.row(self.current, self.at - 1)


class Window(Stream):
    """Lists of `size` elements, `stride` apart, each beginning `shift` after the one before; `wrap(elements)` makes the result."""

    def __init__(self, s: Stream, size: int, shift: int, stride: int, drop: bool, wrap: Callable[[list[Element]], Element]):
        self.inputs, self.size, self.shift, self.stride, self.drop, self.wrap = (s,), size, shift, stride, drop, wrap
        self.kept: list[Any] = []
        self.skip = 0  # elements that stand between two windows
        self.over = False

    def next(self) -> Element:
        span = (self.size - 1) * self.stride + 1
        while not self.over and len(self.kept) < span:
            try:
                found: Any = self.inputs[0].next()
            except End:
                self.over = True
                break
            except Exception as e:  # every window that it belongs to fails
                found = e
            if self.skip:
                self.skip -= 1
            else:
                self.kept.append(found)
        if not self.kept or self.drop and len(self.kept) < span:
            self.kept = []
            raise End
        window = self.kept[:span:self.stride]
        self.skip = max(0, self.shift - len(self.kept))
        self.kept = self.kept[self.shift:]
        for x in window:
            if isinstance(x, Exception):
                raise x
        return self.wrap(window)


class Groups(Stream):
    """`reduce(key, elements)`, a stream, for each `size(key)` elements of one `key(element)`; at the end for what is left, by key."""

    def __init__(self, s: Stream, key: Callable[[Element], int], size: Callable[[int], int],
                 reduce: Callable[[int, list[Element]], Stream]):
        self.inputs, self.key, self.size, self.reduce = (s,), key, size, reduce
        self.kept: dict[int, list[Element]] = {}
        self.current: Stream | None = None
        self.over = False

    def next(self) -> Element:
        while True:
            if self.current is not None:
                try:
                    return self.current.next()
                except End:
                    self.current = None
            if self.over:
                if not self.kept:
                    raise End
                key = min(self.kept)
                self.current = self.reduce(key, self.kept.pop(key))
                continue
            try:
                found = self.inputs[0].next()
            except End:
                self.over = True
                continue
            key = self.key(found)
            group = self.kept.setdefault(key, [])
            group.append(found)
            if len(group) >= self.size(key):
                self.current = self.reduce(key, self.kept.pop(key))


class Choose(Stream):
    """One element of the input that `choice()` names; one that has ended is passed over, with all of them the stream ends."""

    def __init__(self, streams: Sequence[Stream], choice: Callable[[Sequence[bool]], int]):
        self.inputs, self.choice = streams, choice
        self.open = [True] * len(streams)

    def next(self) -> Element:
        while any(self.open):
            i = self.choice(self.open)
            if not self.open[i]:
                continue
            try:
                return self.inputs[i].next()
            except End:
                self.open[i] = False
        raise End


class Cache(Rows):
    """The elements of the first complete pass, kept in `kept` (a dict that all passes of an iterator share)."""

    def __init__(self, make: Callable[[], Stream], kept: dict[str, Any]):
        self.kept, self.mine, self.at = kept, [], 0
        self.source = None if "elements" in kept else make()
        self.table = kept["table"] = self.source.table if self.source else kept["table"]
        if self.table is None:
            self.next = self._element  # type: ignore[method-assign]

    def _element(self) -> Element:
        return self._take(lambda s: [s.next()], 1)[0]

    def _take(self, take: Callable[[Stream], Any], n: int) -> Any:
        if self.source is not None:
            try:
                found = take(self.source)
                self.mine.extend(found)
                return found
            except End:
                self.kept["elements"] = self.mine if self.table is None else np.array(self.mine, np.int64)
                self.source, self.at = None, len(self.mine)
                raise
        rows = self.kept["elements"][self.at:self.at + n]
        if not len(rows):
            raise End
        self.at += len(rows)
        return rows

    def refs(self, n: int) -> np.ndarray:
        return self._take(lambda s: s.refs(n), n)

    def close(self) -> None:
        if self.source is not None:
            self.source.close()


# ---------------------------------------------------------------- ahead of the reader


_waiting = threading.local()


class waiting:
    """Waiting inside goes by the time limit of a step, `access` (see runtime/store.py)."""

    def __init__(self, access: Any):
        self.access = access

    def __enter__(self) -> None:
        self.before, _waiting.access = getattr(_waiting, "access", None), self.access

    def __exit__(self, *problem: Any) -> None:
        _waiting.access = self.before


class _Buffer:
    """What a thread has made and nobody has taken."""

    def __init__(self, size: int):
        self.size = size
        self.ready: collections.deque[Any] = collections.deque()
        self.changed = threading.Condition(locks.rlock())
        self.stopped = False

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.ready.clear()
            self.changed.notify_all()


class Prefetch(Stream):
    """The input, read by a thread up to `size` elements ahead."""

    def __init__(self, s: Stream, size: int):
        self.inputs, self.buffer, self.thread, self.over = (s,), _Buffer(size), None, False
        weakref.finalize(self, self.buffer.stop)

    def start(self) -> None:
        self.thread = threading.Thread(target=_fill, args=(self.inputs[0], self.buffer), daemon=True,  # type: ignore[assignment]
                                       name="graphflow-prefetch")
        self.thread.start()  # type: ignore[attr-defined]

    def next(self) -> Element:
        b = self.buffer
        if self.over:
            raise End
        with b.changed:
            if self.thread is None:
                self.start()
            while not b.ready:
                if b.stopped:
                    raise End
                if not self.thread.is_alive():  # type: ignore[attr-defined]  # a fork: threads stay with the parent
                    self.start()
                self._wait()
            value, problem = b.ready.popleft()
            b.changed.notify_all()
        if problem is None:
            return value
        self.over = isinstance(problem, End)
        raise problem

    def _wait(self) -> None:
        b, access = self.buffer, getattr(_waiting, "access", None)
        if access is None:
            b.changed.wait(1.0)
        else:
            access.wait(b.changed, lambda: b.ready or b.stopped or not self.thread.is_alive(), True)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.buffer.stop()
        if self.thread is None or self.thread is not threading.current_thread():
            super().close()


def _fill(s: Stream, b: _Buffer) -> None:
    while True:
        with b.changed:
            while len(b.ready) >= b.size and not b.stopped:
                b.changed.wait()
            if b.stopped:
                return
        try:
            found = s.next(), None
        except BaseException as e:
            found = None, e  # type: ignore[assignment]
        with b.changed:
            if b.stopped:
                return
            b.ready.append(found)
            b.changed.notify_all()
        if isinstance(found[1], End):
            return
