"""`HParams`: named values, set from text, JSON or a dict, each kept of the type it began with."""
from __future__ import annotations

import json
import numbers
import re
from typing import Any, Callable

__all__ = ["HParams", "parse_values"]

# name, optional [index], "=", then a value without commas or [a list], then a comma or the end
_ASSIGNMENT = re.compile(r"(?P<name>[a-zA-Z][\w.]*)(\[\s*(?P<index>\d+)\s*\])?\s*=\s*((?P<val>[^,\[]*)|\[(?P<vals>[^\]]*)\])($|,\s*)")


def _parse_bool(text: str) -> bool:
    if text in ("true", "True", "false", "False"):
        return text in ("true", "True")
    return bool(int(text))


def parse_values(values: str, type_map: dict[str, type], ignore_unknown: bool = False) -> dict[str, Any]:
    """What a text such as "rate=0.1,units=[3,4],names[1]=b" assigns: {name: value, list, or {index: value}}.

    Args:
        type_map: {name: type of a value}; booleans are true, false, True, False or a number.
        ignore_unknown: leave names out that `type_map` lacks.

    Raises:
        ValueError: the text is no list of assignments, a name is unknown or set twice, a value is not of its type.
    """
    found: dict[str, Any] = {}
    position = 0
    while position < len(values):
        match = _ASSIGNMENT.match(values, position)
        if match is None:
            raise ValueError(f"Malformed hyperparameter value: {values[position:]}")
        position = match.end()
        name = match["name"]
        if name in type_map:
            _set(found, match, type_map[name], values)
        elif not ignore_unknown:
            raise ValueError(f"Unknown hyperparameter type for {name}")
    return found


def _set(found: dict[str, Any], match: re.Match[str], kind: type, values: str) -> None:
    name, index, text = match["name"], match["index"], match["val"] if match["vals"] is None else match["vals"]
    parse: Callable[[str], Any] = _parse_bool if kind is bool else kind
    try:
        value = parse(text) if match["vals"] is None else [parse(t) for t in re.split("[ ,]", text) if t]
    except ValueError:
        raise ValueError(f"Could not parse hparam '{name}' of type '{kind.__name__}' with value '{text}' in {values}") from None
    if index is None:
        target, key = found, name
    elif isinstance(value, list):
        raise ValueError("Assignment of a list to a list index.")
    else:
        target, key = found.setdefault(name, {}), int(index)  # type: ignore[assignment]
    if not isinstance(target, dict) or key in target:
        raise ValueError(f"Multiple assignments to variable '{name if index is None else f'{name}[{index}]'}' in {values}")
    target[key] = value


def _cast(name: str, kind: type, value: Any) -> Any:
    """`value` as a `kind`, without loss.  Raises ValueError for one of another family."""
    if type(value) is kind or kind is type(None):
        return value
    texts, wrong = (str, bytes), f"Could not cast hparam '{name}' of type '{kind}' from value {value!r}"
    if issubclass(kind, texts) and not isinstance(value, texts) or issubclass(kind, bool) != isinstance(value, bool):
        raise ValueError(wrong)
    for family in (numbers.Integral, numbers.Number):
        if issubclass(kind, family) and not isinstance(value, family):
            raise ValueError(wrong)
    return kind(value)  # type: ignore[call-arg]


class HParams:
    """Hyperparameters as attributes.

        hparams = HParams(learning_rate=0.1, num_hidden_units=[100, 50])
        hparams.parse("learning_rate=0.2,num_hidden_units=[200]")

    Args:
        model_structure: kept for `get_model_structure`.
        kwargs: the hyperparameters; a list is one of values like its first.

    Raises:
        ValueError: a name that is an attribute already, an empty list, `hparam_def`, a message of TensorFlow.
    """

    _HAS_DYNAMIC_ATTRIBUTES = True

    def __init__(self, hparam_def: Any = None, model_structure: Any = None, **kwargs: Any):
        if hparam_def is not None:
            raise ValueError("HParams: hparam_def is not supported; give the values as keyword arguments")
        self._hparam_types: dict[str, tuple[type, bool]] = {}
        self._model_structure = model_structure
        for name, value in kwargs.items():
            self.add_hparam(name, value)

    def __getattr__(self, name: str) -> Any:
        from ... import errors

        known = self.__dict__.get("_hparam_types", {})
        raise AttributeError(f"no hyperparameter {name!r}.{errors.suggest(name, known)}")

    def add_hparam(self, name: str, value: Any) -> None:
        """A new one.  Raises ValueError for a name that is in use, or an empty list."""
        if getattr(self, name, None) is not None:
            raise ValueError(f"Hyperparameter name is reserved: {name}")
        several = isinstance(value, (list, tuple))
        if several and not value:
            raise ValueError(f"Multi-valued hyperparameters cannot be empty: {name}")
        self._hparam_types[name] = type(value[0] if several else value), several
        setattr(self, name, value)

    def set_hparam(self, name: str, value: Any) -> None:
        """Sets one that exists.

        Raises:
            KeyError: it does not.  ValueError: a value of another type, a list in place of a value or the other way round.
        """
        kind, several = self._hparam_types[name]
        if isinstance(value, list) != several:
            raise ValueError(f"Must pass a list for multi-valued parameter: {name}." if several else
                             f"Must not pass a list for single-valued parameter: {name}")
        setattr(self, name, [_cast(name, kind, v) for v in value] if several else _cast(name, kind, value))

    def del_hparam(self, name: str) -> None:
        """Removes one, if it is there."""
        if hasattr(self, name):
            delattr(self, name)
            del self._hparam_types[name]

    def parse(self, values: str) -> HParams:
        """Sets from a text such as "rate=0.1,units=[3,4]"; see `parse_values`."""
        return self.override_from_dict(parse_values(values, {name: kind for name, (kind, _) in self._hparam_types.items()}))

    def override_from_dict(self, values_dict: dict[str, Any]) -> HParams:
        """Sets each of the dict."""
        for name, value in values_dict.items():
            self.set_hparam(name, value)
        return self

    set_from_map = override_from_dict

    def parse_json(self, values_json: str) -> HParams:
        """Sets from a JSON object."""
        return self.override_from_dict(json.loads(values_json))

    def to_json(self, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
        """All values as a JSON object."""
        return json.dumps(self.values(), indent=indent, separators=separators, sort_keys=sort_keys)

    def values(self) -> dict[str, Any]:
        """{name: value}."""
        return {name: getattr(self, name) for name in self._hparam_types}

    def get(self, key: str, default: Any = None) -> Any:
        """A value, or `default`.  Raises ValueError when the default is of another type."""
        if key not in self._hparam_types:
            return default
        if default is not None:
            kind, several = self._hparam_types[key]
            wrong = f"Hparam '{key}' of type '{f'list<{kind}>' if several else kind}' is incompatible with default={default}"
            if isinstance(default, list) != several:
                raise ValueError(wrong)
            try:
                for value in default if several else [default]:
                    _cast(key, kind, value)
            except ValueError as e:
                raise ValueError(f"{wrong}. {e}") from None
        return getattr(self, key)

    def set_model_structure(self, model_structure: Any) -> None:
        self._model_structure = model_structure

    def get_model_structure(self) -> Any:
        return self._model_structure

    def __contains__(self, key: str) -> bool:
        return key in self._hparam_types

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.values().items())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self.values().items())})"
