"""Messages that behave as the classes which protobuf generates, made from the tables.

A class has a descriptor (`Field`) for each field, which also knows how to read and write it.  A message keeps only what
is set.  A message or list that is read before it is set is made, and becomes part of its owner at the first change.
"""
from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping

from .. import locks
from . import wire
from .wire import DecodeError, Kind

__all__ = ["DecodeError", "Field", "Message"]


class Field:
    """One field: a Python descriptor of its message's class.  This one holds a scalar.

    `name`, `number` and `label` are those of the .proto file; `oneof` is the tuple of fields of which one is set, or ().
    """

    label, repeated = "optional", False

    def __init__(self, name: str, number: int, kind: Kind | None, made: type[Message] | None = None):
        self.name, self.number, self.kind, self.message_type = name, number, kind, made
        self.oneof: tuple[Field, ...] = ()
        self.has_presence = made is not None  # and the members of a oneof
        self.tag = wire.tag(number, wire.BYTES if kind is None else kind.wire)

    @property
    def readers(self) -> dict[int, Any]:
        """What reads the field, by the tags it may come with."""
        return {wire.read_varint(self.tag, 0, len(self.tag))[0]: self.read}

    # -- as an attribute

    def __get__(self, message: Message | None, owner: Any = None) -> Any:
        return self if message is None else message._values.get(self, self.kind.default)

    def __set__(self, message: Message, value: Any) -> None:
        value = self.kind.check(value)
        message._touch()
        if self.oneof:
            message._claim(self)
        elif not value and str(value) != "-0.0":
            message._values.pop(self, None)
            return
        message._values[self] = value

    def present(self, value: Any) -> bool:
        return True

    def assign(self, message: Message, value: Any) -> None:
        """The value of a constructor's keyword."""
        self.__set__(message, value)

    def merge(self, message: Message, value: Any) -> None:
        """Takes over what another message has."""
        self.__set__(message, value)

    # -- on the wire

    def write(self, value: Any, out: list[bytes], deterministic: bool) -> None:
        out += self.tag, write_scalar(self.kind, value)

    def read(self, message: Message, data: bytes, at: int, end: int, depth: int) -> int:
        value, at = read_scalar(self, data, at, end)
        self.__set__(message, value)
        return at

    def __repr__(self) -> str:
        return f"<field {self.name} = {self.number}>"


def write_scalar(kind: Kind, value: Any) -> bytes:
    raw = kind.pack(value)
    return wire.varint(raw) if kind.wire == wire.VARINT else wire.varint(len(raw)) + raw if kind.wire == wire.BYTES else raw


def read_scalar(field: Field, data: bytes, at: int, end: int) -> tuple[Any, int]:
    """(value, where it ends)."""
    kind = field.kind
    if kind.wire == wire.VARINT:
        raw, at = wire.read_varint(data, at, end)
        return kind.unpack(raw), at
    start, after = wire.read_length(data, at, end) if kind.wire == wire.BYTES else (at, at + (4 if kind.wire == wire.FIXED32 else 8))
    if after > end:
        raise DecodeError(f"truncated number of field {field.name!r}", at)
    try:
        return kind.unpack(data[start:after]), after
    except UnicodeDecodeError:
        raise DecodeError(f"field {field.name!r} is no UTF-8 text", start) from None


class MessageField(Field):
    """A message in a message."""

    def __get__(self, message: Message | None, owner: Any = None) -> Any:
        if message is None:
            return self
        found = message._values.get(self)
        if found is None:
            found = message._values[self] = self.message_type()
            found._owner = message, self
        return found

    def __set__(self, message: Message, value: Any) -> None:
        raise AttributeError(f'Assignment not allowed to message field "{self.name}" in protocol message object; use CopyFrom.')

    def present(self, value: Message) -> bool:
        return value._owner is None

    def assign(self, message: Message, value: Any) -> None:
        self.__get__(message)._take(value)

    merge = assign

    def write(self, value: Message, out: list[bytes], deterministic: bool) -> None:
        out += self.tag, with_length(value.SerializeToString(deterministic=deterministic))

    def read(self, message: Message, data: bytes, at: int, end: int, depth: int) -> int:
        start, after = wire.read_length(data, at, end)
        inner = self.__get__(message)
        inner._touch()
        inner._read(data, start, after, depth + 1)
        return after


def with_length(raw: bytes) -> bytes:
    return wire.varint(len(raw)) + raw


class RepeatedField(Field):
    """A list of scalars; numbers are written packed, and read packed or one by one."""

    label, repeated = "repeated", True

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.has_presence = False
        self.packed = self.kind is not None and self.kind.wire != wire.BYTES
        self.packed_tag = wire.tag(self.number, wire.BYTES)

    @property
    def readers(self) -> dict[int, Any]:
        packed = {wire.read_varint(self.packed_tag, 0, len(self.packed_tag))[0]: self.read_packed} if self.packed else {}
        return super().readers | packed

    def __get__(self, message: Message | None, owner: Any = None) -> Any:
        if message is None:
            return self
        found = message._values.get(self)
        if found is None:
            found = message._values[self] = self.container(message)
        return found

    def container(self, message: Message) -> Any:
        return Scalars(self, message)

    def __set__(self, message: Message, value: Any) -> None:
        raise AttributeError(f'Assignment not allowed to repeated field "{self.name}" in protocol message object; use extend or del.')

    def present(self, value: Any) -> bool:
        return len(value) > 0

    def assign(self, message: Message, value: Any) -> None:
        self.__get__(message).extend(value)

    def merge(self, message: Message, value: Any) -> None:
        self.__get__(message)._more(value)

    def write(self, value: Any, out: list[bytes], deterministic: bool) -> None:
        if self.packed:
            out += self.packed_tag, with_length(self.kind.packs(value))
        else:
            for v in value:
                out += self.tag, write_scalar(self.kind, v)

    def read(self, message: Message, data: bytes, at: int, end: int, depth: int) -> int:
        value, at = read_scalar(self, data, at, end)
        list.append(self.__get__(message), value)
        return at

    def read_packed(self, message: Message, data: bytes, at: int, end: int, depth: int) -> int:
        start, after = wire.read_length(data, at, end)
        list.extend(self.__get__(message), self.kind.unpacks(data, start, after))
        return after


class RepeatedMessageField(RepeatedField):
    """A list of messages."""

    def container(self, message: Message) -> Any:
        return Messages(self, message)

    merge = RepeatedField.assign

    def write(self, value: Any, out: list[bytes], deterministic: bool) -> None:
        for v in value:
            out += self.tag, with_length(v.SerializeToString(deterministic=deterministic))

    def read(self, message: Message, data: bytes, at: int, end: int, depth: int) -> int:
        start, after = wire.read_length(data, at, end)
        inner = self.message_type()
        inner._read(data, start, after, depth + 1)
        list.append(self.__get__(message), inner)
        return after


class MapField(RepeatedMessageField):
    """A dict; on the wire a list of messages with the fields `key` = 1 and `value` = 2."""

    def container(self, message: Message) -> Any:
        return Map(self, message)

    @property
    def key(self) -> Any:
        return self.message_type._fields[0]

    @property
    def value(self) -> Any:
        return self.message_type._fields[1]

    def write(self, value: Any, out: list[bytes], deterministic: bool) -> None:
        for k in sorted(value) if deterministic else value:
            inner: list[bytes] = []
            self.key.write(k, inner, deterministic)
            self.value.write(value[k], inner, deterministic)
            out += self.tag, with_length(b"".join(inner))

    def read(self, message: Message, data: bytes, at: int, end: int, depth: int) -> int:
        start, after = wire.read_length(data, at, end)
        entry = self.message_type()
        entry._read(data, start, after, depth + 1)
        dict.__setitem__(self.__get__(message), entry.key, _kept(entry.value))
        return after

    def assign(self, message: Message, value: Any) -> None:
        self.__get__(message).MergeFrom(value)

    merge = assign


def _kept(value: Any) -> Any:
    if isinstance(value, Message):
        value._owner = None
    return value


# ---------------------------------------------------------------- containers


class _Container:
    """Tells its message of the first change."""

    __slots__ = ()

    def __init__(self, field: Any, message: Message):
        self._field = field
        self._message = message if message._owner is not None else None  # told at the first change; no cycle without need

    def _changed(self) -> None:
        if self._message is not None:
            self._message._touch()
            self._message = None


class Scalars(_Container, list):
    """The values of a repeated field; each is checked as it comes in."""

    __slots__ = ("_field", "_message")

    def append(self, value: Any) -> None:
        super().append(self._field.kind.check(value))
        self._changed()

    def extend(self, values: Iterable[Any]) -> None:
        self._more([] if values is None else self._field.kind.many(values))

    def _more(self, values: list[Any]) -> None:
        """Values that have been checked."""
        list.extend(self, values)
        self._changed()

    def MergeFrom(self, other: Iterable[Any]) -> None:
        self.extend(other)

    def insert(self, index: Any, value: Any) -> None:
        super().insert(index, self._field.kind.check(value))
        self._changed()

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(index, self._field.kind.many(value) if isinstance(index, slice) else self._field.kind.check(value))
        self._changed()

    def __iadd__(self, values: Iterable[Any]) -> Any:
        self.extend(values)
        return self

    def __imul__(self, count: Any) -> Any:
        raise TypeError("a repeated field cannot be multiplied")

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return list(self)

    def __reduce__(self) -> Any:
        return list, (list(self),)


class Messages(Scalars):
    """The messages of a repeated field."""

    __slots__ = ()

    def add(self, **fields: Any) -> Any:
        """A new message at the end."""
        made = self._field.message_type(**fields)
        list.append(self, made)
        self._changed()
        return made

    def _copy(self, value: Any) -> Any:
        made = self._field.message_type()
        made._take(value)
        return made

    def append(self, value: Any) -> None:
        list.append(self, self._copy(value))
        self._changed()

    def insert(self, index: Any, value: Any) -> None:
        list.insert(self, index, self._copy(value))
        self._changed()

    def extend(self, values: Iterable[Any]) -> None:
        self._more([self._copy(v) for v in values])

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(f"'{type(self).__name__}' object does not support item assignment; use CopyFrom on the item")


class Map(_Container, dict):
    """A map field.  Reading a key that is not there makes it, as in protobuf."""

    __slots__ = ("_field", "_message")

    def __getitem__(self, key: Any) -> Any:
        key = self._field.key.kind.check(key)
        if key not in self:
            kind = self._field.value.kind
            super().__setitem__(key, self._field.value.message_type() if kind is None else kind.default)
            self._changed()
        return super().__getitem__(key)

    def get_or_create(self, key: Any) -> Any:
        return self[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        kind = self._field.value.kind
        if kind is None:
            raise ValueError("May not set values directly, call my_map[key].foo = 5")
        super().__setitem__(self._field.key.kind.check(key), kind.check(value))
        self._changed()

    def update(self, *others: Any, **more: Any) -> None:
        for key, value in dict(*others, **more).items():
            self[key] = value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def MergeFrom(self, other: Mapping[Any, Any]) -> None:
        """Takes over all entries of `other`."""
        if not isinstance(other, Mapping):
            raise TypeError(f"a map field takes a dict, got {other!r}")
        for key, value in other.items():
            if self._field.value.kind is None:
                self[key].CopyFrom(self._field.message_type.value.message_type(**value) if isinstance(value, dict) else value)
            else:
                self[key] = value

    def __deepcopy__(self, memo: Any) -> dict[Any, Any]:
        import copy

        return {k: copy.deepcopy(v, memo) for k, v in self.items()}

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


# ---------------------------------------------------------------- messages


class Message:
    """The base of all messages.  Fields are attributes; the constructor takes them by keyword.

    Raises:
        ValueError: an unknown field, a number out of range.  TypeError: a value of another type.  AttributeError: assignment to a
            repeated, map or message field.  DecodeError, a ValueError: bytes that are no such message, with the offset.
    """

    __slots__ = ("_values", "_owner", "_unknown")
    DESCRIPTOR: Descriptor
    _fields: tuple[Field, ...] = ()  # by number
    _readers: dict[int, Any] = {}

    def __init__(self, **fields: Any):
        self._values: dict[Field, Any] = {}
        self._owner: tuple[Message, Field] | None = None  # of which this is not a part yet
        self._unknown = b""
        for name, value in fields.items():
            field = self._field(name)
            if value is not None:
                field.assign(self, value)

    @classmethod
    def _field(cls, name: str) -> Field:
        found = cls.DESCRIPTOR.fields_by_name.get(name)
        if found is None:
            from ..errors import suggest

            raise ValueError(f'Protocol message {cls.__name__} has no "{name}" field.{suggest(name, cls.DESCRIPTOR.fields_by_name)}')
        return found

    # -- what is set

    def _touch(self) -> None:
        """The first change makes this a part of its owner."""
        if self._owner is not None:
            (owner, field), self._owner = self._owner, None
            owner._touch()
            owner._claim(field)

    def _claim(self, field: Field) -> None:
        for other in field.oneof:
            if other is not field and other in self._values and other.present(self._values[other]):
                del self._values[other]

    def _has(self, field: Field) -> bool:
        return field in self._values and field.present(self._values[field])

    def ListFields(self) -> list[tuple[Field, Any]]:
        """(field, value) of all that is set, by field number."""
        values = self._values
        if len(values) < 2:
            return [(f, v) for f, v in values.items() if f.present(v)]
        return [(f, values[f]) for f in self._fields if f in values and f.present(values[f])]

    def HasField(self, field_name: str) -> bool:
        """Whether a message field or a member of a oneof, or any member of the oneof of that name, is set.

        Raises ValueError for other fields, which do not know.
        """
        if field_name in self.DESCRIPTOR.oneofs_by_name:
            return self.WhichOneof(field_name) is not None
        field = self._field(field_name)
        if not field.has_presence:
            raise ValueError(f'Can\'t test non-optional, non-submessage field "{type(self).__name__}.{field_name}" for presence in proto3.')
        return self._has(field)

    def WhichOneof(self, oneof_name: str) -> str | None:
        """The name of the field that is set, or None."""
        if oneof_name not in self.DESCRIPTOR.oneofs_by_name:
            raise ValueError(f'Protocol message {type(self).__name__} has no oneof "{oneof_name}" field.')
        return next((f.name for f in self.DESCRIPTOR.oneofs_by_name[oneof_name] if self._has(f)), None)

    def ClearField(self, field_name: str) -> None:
        """Unsets a field, or whichever of a oneof is set."""
        self._touch()
        name = (self.WhichOneof(field_name) if field_name in self.DESCRIPTOR.oneofs_by_name else field_name)
        if name is not None:
            self._values.pop(self._field(name), None)

    def Clear(self) -> None:
        self._touch()
        self._values, self._unknown = {}, b""

    def SetInParent(self) -> None:
        """Makes this message a set field of the one it was read from, even if nothing in it is set."""
        self._touch()

    def IsInitialized(self) -> bool:
        return True

    def DiscardUnknownFields(self) -> None:
        self._unknown = b""
        for f, value in self.ListFields():
            for inner in value.values() if isinstance(value, dict) else value if f.repeated else [value]:
                if isinstance(inner, Message):
                    inner.DiscardUnknownFields()

    # -- from other messages

    def _take(self, value: Any) -> None:
        """Merges a message, or a dict of fields as a constructor takes."""
        self.MergeFrom(type(self)(**value) if isinstance(value, dict) else value)

    def MergeFrom(self, msg: Any) -> None:
        """Takes over what is set in `msg`: scalars replace, messages merge, lists are appended."""
        if type(msg) is not type(self):
            raise TypeError(f"Parameter to MergeFrom() must be instance of same class: expected {type(self).__name__} got "
                            f"{type(msg).__name__}.")
        self._touch()
        for field, value in msg.ListFields():
            field.merge(self, list(value) if msg is self and field.repeated and not isinstance(value, dict) else value)
        self._unknown += msg._unknown

    def CopyFrom(self, other_msg: Any) -> None:
        """Becomes equal to `other_msg`."""
        if other_msg is not self:
            if type(other_msg) is not type(self):
                raise TypeError(f"Parameter to CopyFrom() must be instance of same class: expected {type(self).__name__} got "
                                f"{type(other_msg).__name__}.")
            self.Clear()
            self.MergeFrom(other_msg)

    # -- bytes

    def SerializeToString(self, deterministic: bool | None = None) -> bytes:
        """The wire format; `deterministic` sorts the keys of maps."""
        out: list[bytes] = []
        for field, value in self.ListFields():
            field.write(value, out, bool(deterministic))
        out.append(self._unknown)
        return b"".join(out)

    SerializePartialToString = SerializeToString

    def ByteSize(self) -> int:
        return len(self.SerializeToString())

    def MergeFromString(self, serialized: Any) -> int:
        """Merges the message that the bytes are; returns their number."""
        if isinstance(serialized, str) or not isinstance(serialized, (bytes, bytearray, memoryview)):
            raise TypeError(f"a serialized message is bytes, got {type(serialized).__name__}")
        data = bytes(serialized)
        self._touch()
        self._read(data, 0, len(data), 0)
        return len(data)

    def ParseFromString(self, serialized: Any) -> int:
        """Becomes the message that the bytes are; returns their number."""
        self.Clear()
        return self.MergeFromString(serialized)

    ParsePartialFromString, MergePartialFromString = ParseFromString, MergeFromString

    @classmethod
    def FromString(cls, s: Any) -> Any:
        """A new message from bytes."""
        made = cls()
        made.MergeFromString(s)
        return made

    def _read(self, data: bytes, at: int, end: int, depth: int) -> None:
        if depth > wire.DEPTH:
            raise DecodeError(f"messages nested deeper than {wire.DEPTH}", at)
        readers, unknown = self._readers, []
        while at < end:
            start = at
            tag, at = wire.read_tag(data, at, end)
            read = readers.get(tag)
            if read is None:
                at = wire.skip(data, at, end, tag)
                unknown.append(data[start:at])
            else:
                at = read(self, data, at, end, depth)
        if unknown:
            self._unknown += b"".join(unknown)

    # -- as a Python object

    def __getattr__(self, name: str) -> Any:
        from ..errors import suggest

        raise AttributeError(f"message {type(self).__name__} has no field {name!r}.{suggest(name, self.DESCRIPTOR.fields_by_name)}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.ListFields() == other.ListFields() and self._unknown == other._unknown  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        from .text import MessageToString

        return MessageToString(self)

    __repr__ = __str__

    def __deepcopy__(self, memo: Any = None) -> Any:
        made = type(self)()
        made.CopyFrom(self)
        return made

    def __reduce__(self) -> Any:
        return type(self).FromString, (self.SerializeToString(),)


class Descriptor:
    """What a message's class says of itself: `name`, `full_name`, `fields`, `fields_by_name`, `oneofs_by_name`."""

    def __init__(self, full_name: str, fields: Iterable[Field], oneofs: dict[str, tuple[Field, ...]]):
        self.full_name, self.name = full_name, full_name.rpartition(".")[2]
        self.fields = list(fields)
        self.fields_by_name = {f.name: f for f in self.fields}
        self.fields_by_number = {f.number: f for f in self.fields}
        self.oneofs_by_name = oneofs


# ---------------------------------------------------------------- classes from tables


def parse(line: str) -> Iterator[tuple[str, str, str, str]]:
    """(name, number, type, oneof or "") of each field in a line of the table."""
    import re

    for oneof, inside, name, number, kind in re.findall(r"(\w+)\{([^}]*)\}|(\w+)=(\d+):(\{[^}]*\}|\S+)", line):
        for item in inside.split() if oneof else [f"{name}={number}:{kind}"]:
            inner, _, rest = item.partition("=")
            yield (inner, *rest.partition(":")[::2], oneof)  # type: ignore[misc]


class Family:
    """All messages of a table, each made when it is first asked for; they may contain themselves."""

    def __init__(self, messages: dict[str, str], enums: dict[str, dict[str, int]], package: str, module: str):
        self.messages, self.enums, self.package, self.module = messages, enums, package, module
        self.made: dict[str, type[Message]] = {}
        self.lock = locks.rlock()  # of two threads that ask first, both get the same class
        self.kinds = dict(wire.KINDS)

    def kind(self, name: str) -> Kind | None:
        """The scalar or enum type of that name, or None."""
        if name in self.enums and name not in self.kinds:
            self.kinds[name] = wire.enum_kind(name, self.enums[name])
        return self.kinds.get(name)

    def message(self, name: str) -> type[Message]:
        """The class of a message.  Raises KeyError."""
        with self.lock:
            if name not in self.made:
                self._define(name, self.messages[name])
            return self.made[name]

    def _define(self, name: str, line: str) -> None:
        made: Any = type(name.rpartition(".")[2], (Message,), {
            "__slots__": (), "__module__": self.module, "__qualname__": name, "__doc__": f"The message {self.package}.{name}: {line}"})
        self.made[name] = made
        fields, groups = [], {}
        for field_name, number, kind, oneof in parse(line):
            field = self._make(f"{name}.{field_name}", field_name, int(number), kind)
            fields.append(field)
            groups.setdefault(oneof, []).append(field)
            setattr(made, field_name, field)
            setattr(made, f"{field_name.upper()}_FIELD_NUMBER", int(number))
        oneofs = {k: tuple(v) for k, v in groups.items() if k}
        for members in oneofs.values():
            for f in members:
                f.oneof, f.has_presence = members, True
        made.DESCRIPTOR = Descriptor(f"{self.package}.{name}", fields, oneofs)
        made._fields = tuple(sorted(fields, key=lambda f: f.number))
        made._readers = {tag: read for f in fields for tag, read in f.readers.items()}
        self._nest(made, name + ".")

    def _nest(self, made: type[Message], prefix: str) -> None:
        for inner in self.messages:
            if inner.startswith(prefix) and "." not in inner[len(prefix):]:
                setattr(made, inner[len(prefix):], self.message(inner))
        for enum, numbers in self.enums.items():
            if enum.startswith(prefix):
                setattr(made, enum[len(prefix):], Enum(enum, numbers))
                for value, number in numbers.items():
                    setattr(made, value, number)

    def _make(self, path: str, name: str, number: int, kind: str) -> Field:
        if kind.startswith("{"):
            entry = f"{path}.Entry"
            key, value = kind[1:-1].split(":")
            if entry not in self.made:
                self._define(entry, f"key=1:{key} value=2:{value}")
            return MapField(name, number, None, self.made[entry])
        several, base = kind.endswith("*"), kind.rstrip("*")
        scalar = self.kind(base)
        if scalar is not None:
            return (RepeatedField if several else Field)(name, number, scalar)
        return (RepeatedMessageField if several else MessageField)(name, number, None, self.message(base))


class Enum:
    """The names of an enum's numbers, both ways."""

    def __init__(self, name: str, numbers: dict[str, int]):
        self.name, self._numbers = name.rpartition(".")[2], numbers

    def Value(self, name: str) -> int:
        if name not in self._numbers:
            raise ValueError(f"Enum {self.name} has no value defined for name {name!r}")
        return self._numbers[name]

    def Name(self, number: int) -> str:
        for name, value in self._numbers.items():
            if value == number:
                return name
        raise ValueError(f"Enum {self.name} has no name defined for value {number}")

    def keys(self) -> list[str]:
        return list(self._numbers)

    def values(self) -> list[int]:
        return list(self._numbers.values())

    def items(self) -> list[tuple[str, int]]:
        return list(self._numbers.items())

    def __getattr__(self, name: str) -> int:
        if name.startswith("_") or name not in self._numbers:
            raise AttributeError(f"enum {self.name} has no value {name!r}")
        return self._numbers[name]
