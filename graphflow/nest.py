"""Nested structures: lists, tuples, named tuples, dicts and attrs classes of values.

Dicts are taken in the order of their sorted keys, as TF1 does.  Knows no tensor (rank 0).
"""
from __future__ import annotations

from typing import Any, Callable, Iterator, Sequence


def is_sequence(x: Any) -> bool:
    """Whether `x` is a structure, not a leaf."""
    return isinstance(x, (list, tuple, dict)) or hasattr(type(x), "__attrs_attrs__")


is_nested = is_sequence


def _keys(d: dict[Any, Any]) -> list[Any]:
    try:
        return sorted(d)
    except TypeError:
        raise TypeError(f"nest only supports dicts with sortable keys, got {list(d)}") from None


def _parts(x: Any) -> list[Any]:
    if isinstance(x, dict):
        return [x[k] for k in _keys(x)]
    if isinstance(x, (list, tuple)):
        return list(x)
    return [getattr(x, a.name) for a in type(x).__attrs_attrs__]


def _like(x: Any, parts: Sequence[Any]) -> Any:
    if isinstance(x, dict):
        found = dict(zip(_keys(x), parts))
        return type(x)((k, found[k]) for k in x)
    if isinstance(x, tuple) and hasattr(x, "_make"):
        return type(x)._make(parts)  # type: ignore[attr-defined]
    return type(x)(parts) if isinstance(x, (list, tuple)) else type(x)(*parts)


def flatten(structure: Any) -> list[Any]:
    """The leaves, in order."""
    return [y for x in _parts(structure) for y in flatten(x)] if is_sequence(structure) else [structure]


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any]) -> Any:
    """`flat_sequence` in the form of `structure`.  Raises ValueError when the number of leaves differs."""
    count = len(flatten(structure))
    flat = list(flat_sequence)
    if len(flat) != count:
        raise ValueError(f"Could not pack sequence: the structure has {count} leaves, {len(flat)} values were given. "
                         f"Structure: {structure}")
    return _pack(structure, iter(flat))


def _pack(structure: Any, values: Iterator[Any]) -> Any:
    if not is_sequence(structure):
        return next(values)
    return _like(structure, [_pack(x, values) for x in _parts(structure)])


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True) -> None:
    """Raises ValueError when the structures differ, TypeError when only the types of their sequences do."""
    if is_sequence(nest1) != is_sequence(nest2):
        raise ValueError(f"The two structures don't have the same nested structure.\n\nFirst structure: {nest1}\n\n"
                         f"Second structure: {nest2}")
    if not is_sequence(nest1):
        return
    same = type(nest1) is type(nest2) or isinstance(nest1, dict) and isinstance(nest2, dict)
    if check_types and not same:
        raise TypeError(f"The two structures don't have the same sequence type. First structure has type {type(nest1)}, "
                        f"while second structure has type {type(nest2)}.")
    if isinstance(nest1, dict) and isinstance(nest2, dict) and set(nest1) != set(nest2):
        raise ValueError(f"The two dictionaries don't have the same set of keys: {list(nest1)} and {list(nest2)}")
    a, b = _parts(nest1), _parts(nest2)
    if len(a) != len(b):
        raise ValueError(f"The two structures don't have the same number of elements.\n\nFirst structure: {nest1}\n\n"
                         f"Second structure: {nest2}")
    for x, y in zip(a, b):
        assert_same_structure(x, y, check_types)


def map_structure(func: Callable[..., Any], *structures: Any, check_types: bool = True) -> Any:
    """`func` of the corresponding leaves of `structures`, in the form of the first."""
    for other in structures[1:]:
        assert_same_structure(structures[0], other, check_types)
    return pack_sequence_as(structures[0], [func(*x) for x in zip(*map(flatten, structures))])


def flatten_up_to(shallow: Any, structure: Any) -> list[Any]:
    """The parts of `structure` that stand where `shallow` has leaves.  Raises ValueError when it has no such parts."""
    if not is_sequence(shallow):
        return [structure]
    if not is_sequence(structure) or len(_parts(shallow)) != len(_parts(structure)):
        raise ValueError(f"{structure!r} does not have the structure {shallow!r}")
    if isinstance(shallow, dict) and isinstance(structure, dict) and set(shallow) != set(structure):
        raise ValueError(f"The two dictionaries don't have the same set of keys: {list(shallow)} and {list(structure)}")
    return [z for x, y in zip(_parts(shallow), _parts(structure)) for z in flatten_up_to(x, y)]


def map_structure_up_to(shallow: Any, func: Callable[..., Any], *structures: Any) -> Any:
    """`func` of the parts of `structures` that stand where `shallow` has leaves."""
    return pack_sequence_as(shallow, [func(*x) for x in zip(*(flatten_up_to(shallow, s) for s in structures))])


def assert_shallow_structure(shallow_tree: Any, input_tree: Any, check_types: bool = True) -> None:
    """Raises TypeError or ValueError unless `shallow_tree` is the upper part of `input_tree`."""
    if not is_sequence(shallow_tree):
        return
    if not is_sequence(input_tree):
        raise TypeError(f"If shallow structure is a sequence, input must also be a sequence. Input has type: {type(input_tree)}.")
    if check_types and type(shallow_tree) is not type(input_tree) and not (isinstance(shallow_tree, dict) and isinstance(input_tree, dict)):
        raise TypeError(f"The two structures don't have the same sequence type. Input structure has type {type(input_tree)}, while "
                        f"shallow structure has type {type(shallow_tree)}.")
    if isinstance(shallow_tree, dict) and set(shallow_tree) != set(input_tree):
        raise ValueError(f"The two structures don't have the same keys. Input: {list(input_tree)}, shallow: {list(shallow_tree)}")
    a, b = _parts(shallow_tree), _parts(input_tree)
    if len(a) != len(b):
        raise ValueError(f"The two structures don't have the same sequence length. Input structure has length {len(b)}, while shallow "
                         f"structure has length {len(a)}.")
    for x, y in zip(a, b):
        assert_shallow_structure(x, y, check_types)


def _named_parts(x: Any) -> list[tuple[Any, Any]]:
    """The parts with their keys, field names or numbers."""
    if isinstance(x, dict):
        return [(k, x[k]) for k in _keys(x)]
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return list(zip(x._fields, x))
    names = range(len(x)) if isinstance(x, (list, tuple)) else [a.name for a in type(x).__attrs_attrs__]
    return list(zip(names, _parts(x)))


def flatten_with_tuple_paths(structure: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any]]:
    """(the keys and numbers that lead to it, leaf) for each leaf."""
    if not is_sequence(structure):
        return [(path, structure)]
    return [found for name, x in _named_parts(structure) for found in flatten_with_tuple_paths(x, (*path, name))]


def yield_flat_paths(nest: Any) -> Iterator[tuple[Any, ...]]:
    """The keys and numbers that lead to each leaf."""
    return (path for path, _ in flatten_with_tuple_paths(nest))


def flatten_with_joined_string_paths(structure: Any, separator: str = "/") -> list[tuple[str, Any]]:
    """("a/0/b", leaf) for each leaf."""
    return [(separator.join(map(str, path)), leaf) for path, leaf in flatten_with_tuple_paths(structure)]


def map_structure_with_tuple_paths(func: Callable[..., Any], *structures: Any, check_types: bool = True) -> Any:
    """`func(path, *leaves)`, path the keys and numbers that lead to the leaves."""
    for other in structures[1:]:
        assert_same_structure(structures[0], other, check_types)
    found = [func(path, *leaves) for path, *leaves in zip(yield_flat_paths(structures[0]), *map(flatten, structures))]
    return pack_sequence_as(structures[0], found)


def map_structure_with_paths(func: Callable[..., Any], *structures: Any, check_types: bool = True) -> Any:
    """`func("a/0/b", *leaves)`."""
    return map_structure_with_tuple_paths(lambda path, *leaves: func("/".join(map(str, path)), *leaves), *structures,
                                          check_types=check_types)


def flatten_dict_items(dictionary: dict[Any, Any]) -> dict[Any, Any]:
    """A dict whose keys and values may be structures of one form, as one of their leaves.

    Raises:
        TypeError: no dict.  ValueError: key and value differ in form, or a key comes twice.
    """
    if not isinstance(dictionary, dict):
        raise TypeError(f"input must be a dictionary, got {type(dictionary).__name__}")
    flat: dict[Any, Any] = {}
    for key, value in dictionary.items():
        keys, values = flatten(key), flatten(value)
        if len(keys) != len(values):
            raise ValueError(f"Could not flatten dictionary. Key had {len(keys)} elements, but value had {len(values)} elements. "
                             f"Key: {key}, value: {value}.")
        for k, v in zip(keys, values):
            if k in flat:
                raise ValueError(f"Could not flatten dictionary: key {k} is not unique.")
            flat[k] = v
    return flat
