"""`tf.flags`: typed command-line options, defined anywhere and read as attributes of FLAGS.

The command line is parsed by `tf.app.run`, or when a flag is first read.  Forms: `--name=value`, `--name value`, and for
booleans `--name`, `--noname`; one dash does as well; what follows `--` is no flag.
"""
from __future__ import annotations

import csv
import enum
import os
import sys
from typing import Any, Callable, Iterable, Iterator, Sequence

from .. import errors

__all__ = ["CantOpenFlagFileError", "DEFINE_alias", "DEFINE_bool", "DEFINE_boolean", "DEFINE_enum", "DEFINE_enum_class", "DEFINE_float",
           "DEFINE_integer", "DEFINE_list", "DEFINE_multi_enum", "DEFINE_multi_enum_class", "DEFINE_multi_float", "DEFINE_multi_integer",
           "DEFINE_multi_string", "DEFINE_spaceseplist", "DEFINE_string", "DuplicateFlagError", "Error", "FLAGS", "Flag", "FlagValues",
           "IllegalFlagValueError", "UnparsedFlagAccessError", "UnrecognizedFlagError", "ValidationError", "adopt_module_key_flags",
           "declare_key_flag", "mark_bool_flags_as_mutual_exclusive", "mark_flag_as_required", "mark_flags_as_mutual_exclusive",
           "mark_flags_as_required", "multi_flags_validator", "register_multi_flags_validator", "register_validator", "validator"]


class Error(Exception):
    """What is wrong with flags or their values."""


class DuplicateFlagError(Error):
    """A flag is defined twice."""


class IllegalFlagValueError(Error):
    """A value that the flag cannot have."""


class UnrecognizedFlagError(Error):
    """A flag nobody defined."""


class CantOpenFlagFileError(Error):
    """The file of `--flagfile` cannot be read."""


class ValidationError(Error):
    """What a validator may raise to say why."""


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


def _words(comma_compat: bool) -> Callable[[Any], list[str]]:
    return lambda value: list(value) if isinstance(value, (list, tuple)) else (value.replace(",", " ") if comma_compat else value).split()


def _member(kind: Any, case_sensitive: bool = False) -> Callable[[Any], Any]:
    """A member of an Enum, by its name."""
    if not isinstance(kind, type) or not issubclass(kind, enum.Enum) or not list(kind):
        raise TypeError(f"{kind!r} is not a subclass of Enum with members.")

    def parse(value: Any) -> Any:
        for m in kind:
            if value is m or isinstance(value, str) and (value == m.name or not case_sensitive and value.lower() == m.name.lower()):
                return m
        raise ValueError(f"value should be one of <{'|'.join(m.name for m in kind)}>")
    return parse


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

    def flag_type(self) -> str:
        """The kind of values, as the help shows it."""
        return self.kind

    def serialize(self) -> str:
        """The flag with its value as on the command line; several lines for one given several times, empty without a value."""
        if self.value is None:
            return ""
        if self.boolean:
            return f"--{self.name}" if self.value else f"--no{self.name}"
        return "\n".join(f"--{self.name}={self._text(v)}" for v in (self.value if self.multiple else [self.value]))

    def _text(self, value: Any) -> str:
        if isinstance(value, enum.Enum):
            return value.name
        return (" " if "whitespace" in self.kind else ",").join(map(str, value)) if isinstance(value, list) else str(value)

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
        put("_keys", {})     # the files of modules -> names of flags they declare to be theirs
        put("_aliases", {})  # other names

    # -- as attributes

    def __getattr__(self, name: str) -> Any:
        if name == "__flags":
            return self._flags
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        flag = self._known(name)
        if not self._parsed:
            self(sys.argv)
        return flag.value

    def _known(self, name: str) -> Flag:
        flag = self._flags.get(self._aliases.get(name, name))
        if flag is None:
            raise AttributeError(f"Unknown command line flag {name!r}.{errors.suggest(name, self._flags)}")
        return flag

    def __setattr__(self, name: str, value: Any) -> None:
        flag = self._known(name)
        flag.value, flag.using_default_value = value, False
        if self._parsed:
            self._validate([flag.name])

    def __delattr__(self, name: str) -> None:
        if name not in self._flags:
            raise AttributeError(name)
        flag = self._flags.pop(name)
        self._short.pop(flag.short_name, None)
        self._validators[:] = [v for v in self._validators if name not in v[0]]

    def __dir__(self) -> list[str]:
        return sorted(self._flags)

    # -- as a mapping

    def __getitem__(self, name: str) -> Flag:
        return self._flags[self._aliases.get(name, name)]

    def __setitem__(self, name: str, flag: Flag) -> None:
        self._flags[name] = flag

    def __contains__(self, name: object) -> bool:
        return name in self._flags or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)

    def flag_values_dict(self) -> dict[str, Any]:
        """All values by name."""
        return {name: f.value for name, f in self._flags.items()}

    def get_flag_value(self, name: str, default: Any) -> Any:
        """The flag's value, or `default` when there is none of that name or it is None."""
        value = self._flags[name].value if name in self._flags else None
        return default if value is None else value

    def set_default(self, name: str, value: Any) -> None:
        """Another default, which counts where the command line says nothing.  Raises AttributeError, IllegalFlagValueError."""
        flag = self._known(name)
        flag.default = flag._parsed(value)
        if flag.using_default_value:
            flag.value = flag.default
        if self._parsed:
            self._validate([flag.name])

    def append_flag_values(self, flag_values: FlagValues) -> None:
        """Takes over all flags of another set.  Raises DuplicateFlagError."""
        for flag in flag_values._flags.values():
            if flag.name != "help" or flag.name not in self._flags:
                self._define(flag)

    def remove_flag_values(self, flag_values: Any) -> None:
        """Forgets flags: those of another set, or of the names given."""
        for name in list(flag_values):
            delattr(self, name)

    def find_module_defining_flag(self, flagname: str, default: Any = None) -> Any:
        """The file in which a flag is defined."""
        return self._flags[flagname].site.rpartition(":")[0] if flagname in self._flags else default

    def flags_by_module_dict(self) -> dict[str, list[Flag]]:
        """The flags by the file that defines them."""
        found: dict[str, list[Flag]] = {}
        for flag in self._flags.values():
            found.setdefault(str(flag.site).rpartition(":")[0], []).append(flag)
        return found

    def get_key_flags_for_module(self, module: Any) -> list[Flag]:
        """The flags that a module (or the path of its file) defines or has declared to be its own."""
        file = _file_of(module)
        own = [f.name for f in self.flags_by_module_dict().get(file, [])]
        return [self._flags[n] for n in dict.fromkeys([*own, *self._keys.get(file, ())]) if n in self._flags]

    def flags_into_string(self) -> str:
        """The flags that have a value, as lines of a flag file."""
        return "".join(f"{text}\n" for f in self._flags.values() if f.name not in ("help", "helpfull") and (text := f.serialize()))

    def append_flags_into_file(self, filename: Any) -> None:
        """Appends `flags_into_string` to a file, which `--flagfile` reads."""
        with open(filename, "a", encoding="utf-8") as f:
            f.write(self.flags_into_string())

    # -- parsing

    def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
        """A command line with the lines of its `--flagfile`s in place of them; blank lines and comments (#, //) are left out.

        Raises:
            CantOpenFlagFileError: a file cannot be read.  Error: `--flagfile` without a file, or one that contains itself.
        """
        return _with_files(list(argv), ())

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
        args = iter(_with_files(list(argv[1:]), ()))
        undefined: set[str] = set()
        unknown: list[str] = []
        for arg in args:
            if arg == "--":
                rest += ["--", *args] if known_only else args
            elif not arg.startswith("-") or arg == "-":
                rest.append(arg)
            elif arg.lstrip("-").partition("=")[0] == "undefok":
                undefined.update((arg.partition("=")[2] or next(args, "")).split(","))
            elif not self._take(arg, args):
                rest.append(arg)
                unknown.append(arg.lstrip("-").partition("=")[0])
        if not known_only:
            bad = [n for n in unknown if n not in undefined and n.removeprefix("no") not in undefined]
            if bad:
                raise UnrecognizedFlagError(f"Unknown command line flag {bad[0]!r}.{errors.suggest(bad[0], self._flags)}")
            rest = [a for a in rest if not (a.startswith("-") and a.lstrip("-").partition("=")[0] in unknown)] if unknown else rest
        self.mark_as_parsed()
        self.validate_all_flags()
        return [argv[0], *rest]

    def _take(self, arg: str, rest: Iterator[str]) -> bool:
        name, equals, text = arg.lstrip("-").partition("=")
        flag = self._flags.get(self._aliases.get(name, name)) or self._short.get(name)
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

    def validate_all_flags(self) -> None:
        """Asks all validators.  Raises IllegalFlagValueError."""
        self._validate(self._flags)

    def _validate(self, names: Iterable[str]) -> None:
        """Asks the validators of some flags: of one, called with its value; of several, called with a dict."""
        wanted = set(names)
        for flags, check, message in self._validators:
            if wanted.isdisjoint(flags):
                continue
            values = {n: self._flags[n].value for n in flags}
            try:
                good, why = check(values[flags[0]] if len(flags) == 1 else values), message
            except ValidationError as e:
                good, why = False, str(e)
            if not good:
                raise IllegalFlagValueError(" ".join(f"flag --{n}={v}:" for n, v in values.items()) + f" {why}")

    # -- help

    def get_help(self, prefix: str = "", include_special_flags: bool = True) -> str:
        """Each flag with its help, default and kind."""
        return self._help(self._flags.values(), prefix)

    def module_help(self, module: Any) -> str:
        """The same of the flags of one module."""
        return self._help(self.get_key_flags_for_module(module))

    def main_module_help(self) -> str:
        """The same of the flags of the running program."""
        return self.module_help(sys.modules["__main__"])

    @staticmethod
    def _help(flags: Iterable[Flag], prefix: str = "") -> str:
        lines = [f"{prefix}flags:"]
        for f in sorted(flags, key=lambda f: f.name):
            short = f"-{f.short_name}," if f.short_name else ""
            lines.append(f"{prefix}  {short}--{'[no]' if f.boolean else ''}{f.name}: {f.help}")
            if f.default is not None:
                lines.append(f"{prefix}    (default: {f.default!r})")
            if not f.boolean:
                lines.append(f"{prefix}    ({f.kind})")
        return "\n".join(lines)

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


def _with_files(args: list[str], inside: tuple[str, ...]) -> list[str]:
    """The arguments with those of flag files in place of `--flagfile=FILE`; what follows `--` is left alone."""
    out: list[str] = []
    left = iter(args)
    for arg in left:
        name, equals, path = arg.lstrip("-").partition("=")
        if arg == "--":
            return [*out, arg, *left]
        if not arg.startswith("-") or name != "flagfile":
            out.append(arg)
            continue
        path = os.path.expanduser(path if equals else next(left, ""))
        if not path or path in inside:
            raise Error(f"--flagfile needs the name of a file that does not contain itself, got {path!r}")
        try:
            with open(path, encoding="utf-8") as f:
                lines = [line.strip() for line in f]
        except OSError as e:
            raise CantOpenFlagFileError(f"ERROR:: Unable to open flagfile: {path}: {e.strerror}") from None
        out += _with_files([line for line in lines if line and not line.startswith(("#", "//"))], (*inside, path))
    return out


def _file_of(module: Any) -> str:
    return str(module if isinstance(module, str) else getattr(module, "__file__", None) or getattr(module, "__name__", ""))


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


def _definer(kind: str, parse: Callable[[Any], Any], text: str, multiple: bool = False, bounded: bool = False) -> Callable[..., None]:
    """The function that defines flags of one kind."""
    def define(name: Any, default: Any, help: str | None, flag_values: FlagValues | None, lower_bound: Any = None, upper_bound: Any = None,
               short_name: str | None = None, flag_name: Any = None, default_value: Any = _MISSING, docstring: str | None = None,
               required: bool = False, **_: Any) -> None:
        name = flag_name if name is None else name
        default = default_value if default is _MISSING else default
        if name is None or default is _MISSING and not required:
            raise TypeError("a flag needs a name and a default (None for no value)")
        default = None if default is _MISSING else default
        _define(kind, parse, multiple, name, default, docstring if help is None else help, flag_values, short_name)
        if lower_bound is not None or upper_bound is not None:
            low, high = lower_bound, upper_bound
            register_validator(name, lambda v: all((low is None or x >= low) and (high is None or x <= high)
                                                   for x in (v if multiple and v is not None else [] if v is None else [v])),
                               f"must be between {low} and {high}", flag_values)
        if required:
            mark_flag_as_required(name, flag_values)

    if bounded:
        def made(name: Any = None, default: Any = _MISSING, help: str | None = None, lower_bound: Any = None, upper_bound: Any = None,
                 flag_values: FlagValues | None = None, **args: Any) -> None:
            define(name, default, help, flag_values, lower_bound, upper_bound, **args)
    else:
        def made(name: Any = None, default: Any = _MISSING, help: str | None = None, flag_values: FlagValues | None = None,  # type: ignore
                 **args: Any) -> None:
            define(name, default, help, flag_values, **args)
    made.__doc__ = f"""Defines a flag whose value is {text}.

    Args:
        name, default, help: the flag; older names are flag_name, default_value, docstring.  A default of None is no value.
        short_name: one letter that does as well.
        required: the command line must give it.

    Raises:
        DuplicateFlagError: the name is taken.  IllegalFlagValueError: a default of another type.
    """
    return made


DEFINE_string = _definer("a string", _string, "a string")
DEFINE_integer = _definer("an integer", _integer, "an int, in decimal, 0x or 0o form, between lower_bound and upper_bound", bounded=True)
DEFINE_float = _definer("a number", _float, "a float between lower_bound and upper_bound", bounded=True)
DEFINE_boolean = DEFINE_bool = _definer("bool", _boolean, "a bool: --name, --noname, --name=true|t|1|false|f|0")
DEFINE_list = _definer("a comma separated list", _list, "a list of strings, separated by commas")
_SEVERAL = "{}; repeat this option to specify a list of values"
DEFINE_multi_string = _definer(_SEVERAL.format("a string"), _string, "the list of all values given", True)
DEFINE_multi_integer = _definer(_SEVERAL.format("an integer"), _integer, "the list of all values given", True, bounded=True)
DEFINE_multi_float = _definer(_SEVERAL.format("a number"), _float, "the list of all values given", True, bounded=True)


def DEFINE_enum(name: str, default: str | None, enum_values: Sequence[str], help: str | None = None, flag_values: FlagValues | None = None,
                module_name: str | None = None, short_name: str | None = None, case_sensitive: bool = True) -> None:
    """Defines a flag whose value is one of `enum_values`."""
    _define(f"<{'|'.join(enum_values)}>", _enum(list(enum_values), case_sensitive), False, name, default, help, flag_values, short_name)


def DEFINE_multi_enum(name: str, default: Any, enum_values: Sequence[str], help: str | None = None, flag_values: FlagValues | None = None,
                      case_sensitive: bool = True, short_name: str | None = None) -> None:
    """Defines a flag whose value is a list of some of `enum_values`, one for each time it is given."""
    _define(_SEVERAL.format(f"<{'|'.join(enum_values)}>"), _enum(list(enum_values), case_sensitive), True, name, default, help, flag_values,
            short_name)


def DEFINE_enum_class(name: str, default: Any, enum_class: Any, help: str | None = None, flag_values: FlagValues | None = None,
                      module_name: str | None = None, case_sensitive: bool = False, short_name: str | None = None) -> None:
    """Defines a flag whose value is a member of an Enum, given by name.

    Raises:
        TypeError: no Enum with members.
    """
    parse = _member(enum_class, case_sensitive)
    _define(f"<{'|'.join(m.name for m in enum_class)}>", parse, False, name, default, help, flag_values, short_name)


def DEFINE_multi_enum_class(name: str, default: Any, enum_class: Any, help: str | None = None, flag_values: FlagValues | None = None,
                            module_name: str | None = None, case_sensitive: bool = False, short_name: str | None = None) -> None:
    """Defines a flag whose value is a list of members of an Enum, one for each time it is given."""
    parse = _member(enum_class, case_sensitive)
    _define(_SEVERAL.format(f"<{'|'.join(m.name for m in enum_class)}>"), parse, True, name, default, help, flag_values, short_name)


def DEFINE_spaceseplist(name: str, default: Any, help: str | None = None, comma_compat: bool = False, flag_values: FlagValues | None = None,
                        short_name: str | None = None) -> None:
    """Defines a flag whose value is a list of strings, separated by white space (or commas with `comma_compat`)."""
    kind = "a whitespace separated list"
    _define(kind.replace("whitespace", "whitespace or comma") if comma_compat else kind, _words(comma_compat), False, name, default, help,
            flag_values, short_name)


def DEFINE_alias(name: str, original_name: str, flag_values: FlagValues | None = None, module_name: str | None = None) -> None:
    """Another name of a flag, on the command line and as an attribute.

    Raises:
        UnrecognizedFlagError: there is no flag `original_name`.  DuplicateFlagError: `name` is taken.
    """
    values = FLAGS if flag_values is None else flag_values
    if original_name not in values:
        raise UnrecognizedFlagError(f"Unknown command line flag {original_name!r}.{errors.suggest(original_name, values)}")
    if name in values:
        raise DuplicateFlagError(f"The flag {name!r} is defined twice.")
    values._aliases[name] = original_name


# ---------------------------------------------------------------- conditions


def _checked(names: Sequence[str], checker: Callable[[Any], Any], message: str, flag_values: FlagValues | None) -> None:
    values = FLAGS if flag_values is None else flag_values
    for n in names:
        if n not in values:
            raise AttributeError(f"Unknown command line flag {n!r}.{errors.suggest(n, values)}")
    values._validators.append((tuple(names), checker, message))


def register_multi_flags_validator(flag_names: Sequence[str], multi_flags_checker: Callable[[dict[str, Any]], Any],
                                   message: str = "Flags validation failed", flag_values: FlagValues | None = None) -> None:
    """After parsing and after assignments to one of the flags, `checker({name: value})` must be true.

    Raises:
        AttributeError: an unknown flag.
    """
    names = list(flag_names)
    check = multi_flags_checker if len(names) != 1 else lambda value: multi_flags_checker({names[0]: value})
    _checked(names, check, message, flag_values)


def validator(flag_name: str, message: str = "Flag validation failed", flag_values: FlagValues | None = None) -> Any:
    """`register_validator` as a decorator."""
    def register(checker: Callable[[Any], Any]) -> Callable[[Any], Any]:
        register_validator(flag_name, checker, message, flag_values)
        return checker
    return register


def multi_flags_validator(flag_names: Sequence[str], message: str = "Flag validation failed", flag_values: FlagValues | None = None) -> Any:
    """`register_multi_flags_validator` as a decorator."""
    def register(checker: Callable[[Any], Any]) -> Callable[[Any], Any]:
        register_multi_flags_validator(flag_names, checker, message, flag_values)
        return checker
    return register


def mark_flags_as_mutual_exclusive(flag_names: Sequence[str], required: bool = False, flag_values: FlagValues | None = None) -> None:
    """At most one of the flags may have a value; exactly one if `required`."""
    def check(values: dict[str, Any]) -> bool:
        given = sum(v is not None for v in values.values())
        return given == 1 or not required and not given
    message = f"{'Exactly' if required else 'At most'} one of ({', '.join(flag_names)}) must have a value other than None."
    register_multi_flags_validator(flag_names, check, message, flag_values)


def mark_bool_flags_as_mutual_exclusive(flag_names: Sequence[str], required: bool = False, flag_values: FlagValues | None = None) -> None:
    """At most one of the boolean flags may be true; exactly one if `required`.  Raises ValidationError for flags of another kind."""
    values = FLAGS if flag_values is None else flag_values
    for n in flag_names:
        if not values[n].boolean:
            raise ValidationError(f"Flag --{n} is not Boolean, which is required for flags used in mark_bool_flags_as_mutual_exclusive.")

    def check(found: dict[str, Any]) -> bool:
        given = sum(bool(v) for v in found.values())
        return given == 1 or not required and not given
    message = f"{'Exactly' if required else 'At most'} one of ({', '.join(flag_names)}) must be True."
    register_multi_flags_validator(flag_names, check, message, flag_values)


def declare_key_flag(flag_name: str, flag_values: FlagValues | None = None) -> None:
    """The help of the calling module shows that flag too.  Raises UnrecognizedFlagError."""
    values = FLAGS if flag_values is None else flag_values
    if flag_name not in values:
        raise UnrecognizedFlagError(f"Unknown command line flag {flag_name!r}.{errors.suggest(flag_name, values)}")
    values._keys.setdefault(_site().rpartition(":")[0], []).append(flag_name)


def adopt_module_key_flags(module: Any, flag_values: FlagValues | None = None) -> None:
    """The help of the calling module shows the flags of another module too.  Raises Error when it is no module."""
    if not hasattr(module, "__name__"):
        raise Error(f"Expected a module, got {module!r}")
    values = FLAGS if flag_values is None else flag_values
    values._keys.setdefault(_site().rpartition(":")[0], []).extend(f.name for f in values.get_key_flags_for_module(module))


def register_validator(flag_name: str, checker: Callable[[Any], Any], message: str = "Flag validation failed",
                       flag_values: FlagValues | None = None) -> None:
    """After parsing and after each assignment, `checker(value)` must be true; else IllegalFlagValueError says `message`."""
    _checked([flag_name], checker, message, flag_values)


def mark_flag_as_required(flag_name: str, flag_values: FlagValues | None = None) -> None:
    """Parsing raises IllegalFlagValueError when the flag has no value."""
    register_validator(flag_name, lambda v: v is not None, f"Flag --{flag_name} must have a value other than None.", flag_values)


def mark_flags_as_required(flag_names: Iterable[str], flag_values: FlagValues | None = None) -> None:
    """`mark_flag_as_required` of each."""
    for name in flag_names:
        mark_flag_as_required(name, flag_values)


DEFINE_boolean("help", False, "show the flags of the program", short_name="h")
DEFINE_boolean("helpfull", False, "show all flags")
