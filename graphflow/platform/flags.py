"""`tf.flags`: typed command-line options, defined anywhere and read as attributes of FLAGS.

The command line is parsed by `tf.app.run`, or when a flag is first read.  Forms: `--name=value`, `--name value`, and for
booleans `--name`, `--noname`; one dash does as well; what follows `--` is no flag.
"""
from __future__ import annotations

import csv
import sys
from typing import Any, Callable, Iterable, Iterator, Sequence

from .. import errors

__all__ = ["DEFINE_bool", "DEFINE_boolean", "DEFINE_enum", "DEFINE_float", "DEFINE_integer", "DEFINE_list", "DEFINE_multi_integer",
           "DEFINE_multi_string", "DEFINE_string", "DuplicateFlagError", "Error", "FLAGS", "Flag", "FlagValues", "IllegalFlagValueError",
           "UnparsedFlagAccessError", "UnrecognizedFlagError", "mark_flag_as_required", "mark_flags_as_required", "register_validator"]


class Error(Exception):
    """What is wrong with flags or their values."""


class DuplicateFlagError(Error):
    """A flag is defined twice."""


class IllegalFlagValueError(Error):
    """A value that the flag cannot have."""


class UnrecognizedFlagError(Error):
    """A flag nobody defined."""


class UnparsedFlagAccessError(Error):
    """A flag read before the command line was parsed."""


# ---------------------------------------------------------------- one flag


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f'flag value must be a string, found "{type(value).__name__}"')
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str):
        return int(value, {"0x": 16, "0o": 8}.get(value.lstrip("+-")[:2].lower(), 10))
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"Expect argument to be a string or int, found {type(value).__name__}")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not (isinstance(value, str) or hasattr(value, "__float__")):
        raise TypeError(f"Expect argument to be a string, int, or float, found {type(value).__name__}")
    return float(value)


def _boolean(value: Any) -> bool:
    text = value.lower() if isinstance(value, str) else value
    if text in ("true", "t", "1", 1):
        return True
    if text in ("false", "f", "0", 0):
        return False
    raise ValueError("Non-boolean argument to boolean flag", value)


def _list(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return list(value)
    return [s.strip() for s in next(csv.reader([value], strict=True))] if value else []


def _enum(choices: Sequence[str], case_sensitive: bool) -> Callable[[Any], str]:
    if not choices:
        raise ValueError(f"enum_values cannot be empty, found {choices!r}")

    def parse(value: Any) -> str:
        for c in choices:
            if value == c or not case_sensitive and isinstance(value, str) and value.lower() == c.lower():
                return c
        raise ValueError(f"value should be one of <{'|'.join(choices)}>")
    return parse


class Flag:
    """A flag's value, default and help; `present` counts how often the command line gave it."""

    def __init__(self, name: str, default: Any, help: str | None, parse: Callable[[Any], Any], kind: str, multiple: bool = False,
                 site: Any = None, short_name: str | None = None):
        self.name, self.help, self.kind, self.site, self.short_name = name, help or "", kind, site, short_name
        self._convert, self.multiple, self.present, self.using_default_value = parse, multiple, 0, True
        self.boolean = kind == "bool"
        self.default = self.value = self._parsed(default)

    def _parsed(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            if self.multiple:
                return [self._convert(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
            return self._convert(value)
        except (TypeError, ValueError) as e:
            raise IllegalFlagValueError(f"flag --{self.name}={value}: {e.args[0] if e.args else e}") from None

    def parse(self, text: Any) -> None:
        """Takes the value from the command line; the flags of `DEFINE_multi_...` collect theirs."""
        new = self._parsed(text)
        self.value = self.value + new if self.multiple and self.present else new
        self.present += 1
        self.using_default_value = False

    def unparse(self) -> None:
        self.value, self.present, self.using_default_value = self.default, 0, True

    def __str__(self) -> str:  # TF1 before 1.5 kept bare values where later versions keep flags
        return str(self.value)

    def __repr__(self) -> str:
        return f"<flag --{self.name}={self.value!r}>"


# ---------------------------------------------------------------- all flags


class FlagValues:
    """The flags of a program by name.  Reading one parses `sys.argv` if nobody did.

    Raises:
        AttributeError: there is no such flag.  IllegalFlagValueError, UnrecognizedFlagError: from the command line.
    """

    def __init__(self) -> None:
        put = self.__dict__.__setitem__
        put("_flags", {})
        put("_short", {})
        put("_parsed", False)
        put("_validators", [])

    # -- as attributes

    def __getattr__(self, name: str) -> Any:
        if name == "__flags":
            return self._flags
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        flag = self._flags.get(name)
        if flag is None:
            raise AttributeError(f"Unknown command line flag {name!r}.{errors.suggest(name, self._flags)}")
        if not self._parsed:
            self(sys.argv)
        return flag.value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._flags:
            raise AttributeError(f"Unknown command line flag {name!r}.{errors.suggest(name, self._flags)}")
        flag = self._flags[name]
        flag.value, flag.using_default_value = value, False
        if self._parsed:
            self._validate([name])

    def __delattr__(self, name: str) -> None:
        if name not in self._flags:
            raise AttributeError(name)
        flag = self._flags.pop(name)
        self._short.pop(flag.short_name, None)
        self._validators[:] = [v for v in self._validators if v[0] != name]

    def __dir__(self) -> list[str]:
        return sorted(self._flags)

    # -- as a mapping

    def __getitem__(self, name: str) -> Flag:
        return self._flags[name]

    def __setitem__(self, name: str, flag: Flag) -> None:
        self._flags[name] = flag

    def __contains__(self, name: object) -> bool:
        return name in self._flags

    def __iter__(self) -> Iterator[str]:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)

    def flag_values_dict(self) -> dict[str, Any]:
        """All values by name."""
        return {name: f.value for name, f in self._flags.items()}

    # -- parsing

    def is_parsed(self) -> bool:
        return self._parsed

    def mark_as_parsed(self) -> None:
        self.__dict__["_parsed"] = True

    def unparse_flags(self) -> None:
        """Back to the defaults, as before any parsing."""
        for f in self._flags.values():
            f.unparse()
        self.__dict__["_parsed"] = False

    def _parse_flags(self, args: Sequence[str] | None = None) -> None:
        self([sys.argv[0], *(sys.argv[1:] if args is None else args)])

    def __call__(self, argv: Sequence[str], known_only: bool = False) -> list[str]:
        """Sets flags from a command line whose first item is the program; returns what is no flag, the program first.

        With `known_only`, flags nobody defined are returned too; else they raise UnrecognizedFlagError.
        """
        if isinstance(argv, (str, bytes)) or not argv:
            raise TypeError(f"argv should be a non-empty sequence of strings, got {argv!r}")
        for f in self._flags.values():
            f.unparse() if f.present else None
        rest: list[str] = []
        args = iter(argv[1:])
        for arg in args:
            if arg == "--":
                rest += ["--", *args] if known_only else args
            elif not arg.startswith("-") or arg == "-":
                rest.append(arg)
            elif not self._take(arg, args):
                if not known_only:
                    name = arg.lstrip("-").partition("=")[0]
                    raise UnrecognizedFlagError(f"Unknown command line flag {name!r}.{errors.suggest(name, self._flags)}")
                rest.append(arg)
        self.mark_as_parsed()
        self._validate([v[0] for v in self._validators])
        return [argv[0], *rest]

    def _take(self, arg: str, rest: Iterator[str]) -> bool:
        name, equals, text = arg.lstrip("-").partition("=")
        flag = self._flags.get(name) or self._short.get(name)
        if flag is None:
            negated = self._flags.get(name[2:]) if name.startswith("no") else None
            if negated is None or not negated.boolean:
                return False
            if equals:
                raise IllegalFlagValueError(f"flag --{name} takes no value, got {text!r}")
            negated.parse(False)
        elif equals:
            flag.parse(text)
        elif flag.boolean:
            flag.parse(True)
        else:
            value = next(rest, None)
            if value is None:
                raise Error(f"Missing value for flag --{name}")
            flag.parse(value)
        return True

    def _validate(self, names: Iterable[str]) -> None:
        wanted = set(names)
        for name, check, message in self._validators:
            if name in wanted and not check(self._flags[name].value):
                raise IllegalFlagValueError(f"flag --{name}={self._flags[name].value}: {message}")

    # -- help

    def get_help(self) -> str:
        """Each flag with its help, default and kind."""
        lines = ["flags:"]
        for name, f in sorted(self._flags.items()):
            lines.append(f"  --{'[no]' if f.boolean else ''}{name}: {f.help}")
            if f.default is not None:
                lines.append(f"    (default: {f.default!r})")
            if not f.boolean:
                lines.append(f"    ({f.kind})")
        return "\n".join(lines)

    main_module_help = get_help

    def _define(self, flag: Flag) -> None:
        old = self._flags.get(flag.name)
        if old is not None and old.site != flag.site:  # the same line again is a module or notebook cell run once more
            raise DuplicateFlagError(f"The flag {flag.name!r} is defined twice: at {old.site} and at {flag.site}.")
        if old is not None and old.present:  # that run keeps what the command line said
            flag.value, flag.present, flag.using_default_value = old.value, old.present, False
        self._flags[flag.name] = flag
        if flag.short_name:
            self._short[flag.short_name] = flag


FLAGS = FlagValues()


def _site() -> str:
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _define(kind: str, parse: Callable[[Any], Any], multiple: bool, name: str, default: Any, help: str | None,
            flag_values: FlagValues | None,
            short_name: str | None) -> None:
    (FLAGS if flag_values is None else flag_values)._define(Flag(name, default, help, parse, kind, multiple, _site(), short_name))


_MISSING = object()


def _definer(kind: str, parse: Callable[[Any], Any], text: str, multiple: bool = False) -> Callable[..., None]:
    def define(name: Any = None, default: Any = _MISSING, help: str | None = None, flag_values: FlagValues | None = None,
               short_name: str | None = None,
               lower_bound: Any = None, upper_bound: Any = None, *, flag_name: Any = None, default_value: Any = _MISSING,
               docstring: str | None = None, required: bool = False) -> None:
        name = flag_name if name is None else name
        default = default_value if default is _MISSING else default
        if name is None or default is _MISSING and not required:
            raise TypeError("a flag needs a name and a default (None for no value)")
        _define(kind, parse, multiple, name, None if default is _MISSING else default, docstring if help is None else help, flag_values,
                short_name)
        if lower_bound is not None or upper_bound is not None:
            low, high = lower_bound, upper_bound
            register_validator(name, lambda v: v is None or (low is None or v >= low) and (high is None or v <= high),
                               f"must be between {low} and {high}", flag_values)
        if required:
            mark_flag_as_required(name, flag_values)
    define.__doc__ = (f"Defines a flag whose value is {text}.  Old names of the arguments: flag_name, default_value, docstring.\n\n"
                      "    Raises:\n        DuplicateFlagError: the name is taken.  "
                      "IllegalFlagValueError: a default of another type.\n    ")
    return define


DEFINE_string = _definer("a string", _string, "a string")
DEFINE_integer = _definer("an integer", _integer, "an int, in decimal, 0x or 0o form, between lower_bound and upper_bound")
DEFINE_float = _definer("a number", _float, "a float between lower_bound and upper_bound")
DEFINE_boolean = DEFINE_bool = _definer("bool", _boolean, "a bool: --name, --noname, --name=true|t|1|false|f|0")
DEFINE_list = _definer("a comma separated list", _list, "a list of strings, separated by commas")
DEFINE_multi_string = _definer("a string; repeat this option to specify a list of values", _string, "the list of all values given", True)
DEFINE_multi_integer = _definer("an integer; repeat this option to specify a list of values", _integer, "the list of all values given",
                                True)


def DEFINE_enum(name: str, default: str | None, enum_values: Sequence[str], help: str | None = None, flag_values: FlagValues | None = None,
                short_name: str | None = None, case_sensitive: bool = True) -> None:
    """Defines a flag whose value is one of `enum_values`."""
    _define(f"<{'|'.join(enum_values)}>", _enum(list(enum_values), case_sensitive), False, name, default, help, flag_values, short_name)


def register_validator(flag_name: str, checker: Callable[[Any], Any], message: str = "Flag validation failed",
                       flag_values: FlagValues | None = None) -> None:
    """After parsing and after each assignment, `checker(value)` must be true; else IllegalFlagValueError says `message`."""
    values = FLAGS if flag_values is None else flag_values
    if flag_name not in values:
        raise AttributeError(f"Unknown command line flag {flag_name!r}.{errors.suggest(flag_name, values)}")
    values._validators.append((flag_name, checker, message))


def mark_flag_as_required(flag_name: str, flag_values: FlagValues | None = None) -> None:
    """Parsing raises IllegalFlagValueError when the flag has no value."""
    register_validator(flag_name, lambda v: v is not None, f"Flag --{flag_name} must have a value other than None.", flag_values)


def mark_flags_as_required(flag_names: Iterable[str], flag_values: FlagValues | None = None) -> None:
    """`mark_flag_as_required` of each."""
    for name in flag_names:
        mark_flag_as_required(name, flag_values)


DEFINE_boolean("help", False, "show this help", short_name="h")
