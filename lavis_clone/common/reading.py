"""Reads mappings into dataclasses, and refuses what does not fit.

A dataclass says what a mapping may hold: its fields are the keys, their types are checked, their
defaults are the only ones. Every problem is found before the first is told.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lavis_clone.common.names import suggest
from lavis_clone.common.registry import UnknownName

C = TypeVar("C")

MANDATORY = "???"
"""What OmegaConf calls a value that another file has to give."""


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line each."""

    @classmethod
    def of(cls, problems: Sequence[str]) -> ConfigError:
        return cls("\n".join(problems))


class Problems(list[str]):
    """Lines of a ConfigError to come."""

    @contextmanager
    def collect(self, where: str) -> Iterator[None]:
        """Note the errors of the block that are a user's to correct, and go on after it."""
        try:
            yield
        except ConfigError as error:
            self._add(str(error).splitlines(), where)
        except ModuleNotFoundError as error:
            module = (error.name or str(error)).partition(".")[0]
            if module == "lavis_clone":
                raise
            self._add([f"{where}: needs the Python package {module!r}, not installed here"], where)
        except (UnknownName, ImportError, OSError) as error:
            self._add([first_line(error)], where)

    def _add(self, lines: Sequence[str], where: str) -> None:
        """Append what is new, each line with its place in the file in front."""
        for line in lines:
            has_place = line.startswith((f"{where}:", f"{where}.", f"{where}["))
            placed = line if has_place else f"{where}: {line}"
            if placed not in self:
                self.append(placed)


def read(cls: type[C], raw: Mapping[str, Any] | None, *, where: str = "config") -> C:
    """Build ``cls`` from ``raw``.

    Numbers may be written as YAML reads them wrongly: ``"1e-5"`` is a float and ``"2e4"`` an int.

    Args:
        cls: A dataclass. Fields may be dataclasses, ``list``, ``tuple``, ``dict``, ``Literal``,
            ``Path``, ``Any``, unions and ``X | None`` of these and of plain types.
        raw: A mapping, of OmegaConf or of Python; None reads as an empty one.
        where: Dotted place of ``raw`` in its file, for messages.

    Raises:
        ConfigError: with a line for each unknown key, wrong type, missing key and broken rule of
            ``__post_init__``.
    """
    problems: list[str] = []
    value = _read(cls, {} if raw is None else plain(raw, where=where), where, problems)
    if problems:
        raise ConfigError.of(problems)
    return typing.cast(C, value)


def plain(raw: Any, *, where: str = "config") -> Any:
    """Turn OmegaConf's containers into dicts and lists, with ``${...}`` replaced.

    Raises:
        ConfigError: an interpolation that leads nowhere.
    """
    if not OmegaConf.is_config(raw):
        return raw
    try:
        return OmegaConf.to_container(raw, resolve=True)
    except OmegaConfBaseException as error:
        place = getattr(error, "full_key", None) or where
        raise ConfigError(f"{place}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for errors that go on for many."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _read(kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    """Read ``raw`` as ``kind``; what is wrong goes into ``problems``."""
    if kind is Any or isinstance(kind, TypeVar):
        return raw
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, raw, where, problems)
    origin = get_origin(kind) or kind
    if origin in (typing.Union, types.UnionType):
        return _read_union(kind, raw, where, problems)
    reader = _READERS.get(origin)
    if reader is not None:
        return reader(kind, raw, where, problems)
    if not isinstance(raw, origin):
        problems.append(f"{where}: must be {_word(kind)}, got {raw!r}")
    return raw


def _read_dataclass(cls: Any, raw: Any, where: str, problems: list[str]) -> Any:
    if isinstance(raw, cls):
        return raw
    if not isinstance(raw, Mapping):
        problems.append(f"{where}: must be a mapping, got {raw!r}")
        return None
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    before = len(problems)
    for key in raw:
        if key not in fields:
            problems.append(f"{where}.{key}: unknown key{suggest(str(key), fields)}")
    given = {k: raw[k] for k in fields if k in raw and not _is_mandatory(raw[k])}
    values = {k: _read(hints[k], v, f"{where}.{k}", problems) for k, v in given.items()}
    for name, field in fields.items():
        default = (field.default, field.default_factory)
        if name not in given and (name in raw or default == (dataclasses.MISSING,) * 2):
            problems.append(f"{where}.{name}: required, but not given")
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except (ValueError, OSError) as error:  # a rule between fields, a file that is not there
        joint = "." if isinstance(error, ConfigError) else ": "  # it read a block of its own
        problems.extend(f"{where}{joint}{line}" for line in str(error).splitlines())
        return None


def _is_mandatory(value: Any) -> bool:
    return isinstance(value, str) and value == MANDATORY


def _read_union(kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    """Take the first member that fits; a value of exactly a member's type is kept as it is."""
    members = [m for m in get_args(kind) if m is not type(None)]
    if raw is None and len(members) < len(get_args(kind)):
        return None
    if len(members) == 1:
        return _read(members[0], raw, where, problems)
    if type(raw) in members:
        return raw
    for member in members:
        found: list[str] = []
        value = _read(member, raw, where, found)
        if not found:
            return value
    problems.append(f"{where}: must be {' or '.join(map(_word, members))}, got {raw!r}")
    return None


def _read_literal(kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    choices = get_args(kind)
    if not any(raw == c and type(raw) is type(c) for c in choices):
        listed = ", ".join(map(repr, choices))
        hint = suggest(raw, [c for c in choices if isinstance(c, str)]) if type(raw) is str else ""
        problems.append(f"{where}: must be one of {listed}, got {raw!r}{hint}")
    return raw


def _read_sequence(kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(raw, (list, tuple)):
        problems.append(f"{where}: must be a list, got {raw!r}")
        return None
    is_tuple, args = get_origin(kind) is tuple or kind is tuple, get_args(kind)
    if is_tuple and args and args[-1] is not Ellipsis:
        if len(args) != len(raw):
            problems.append(f"{where}: must have {len(args)} items, got {len(raw)}: {raw!r}")
            return None
        kinds = list(args)
    else:
        kinds = [args[0] if args else Any] * len(raw)
    pairs = enumerate(zip(kinds, raw, strict=True))
    items = [_read(k, item, f"{where}[{i}]", problems) for i, (k, item) in pairs]
    return tuple(items) if is_tuple else items


def _read_mapping(kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(raw, Mapping):
        problems.append(f"{where}: must be a mapping, got {raw!r}")
        return None
    of_key, of_value = get_args(kind) or (Any, Any)
    return {
        _read(of_key, k, f"{where} (key {k!r})", problems): _read(
            of_value, v, f"{where}.{k}", problems
        )
        for k, v in raw.items()
    }


def _read_int(_kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    if type(raw) is int:
        return raw
    number = _number(raw)
    if number is None or not number.is_integer():
        problems.append(f"{where}: must be a whole number, got {raw!r}")
        return None
    return int(number)


def _read_float(_kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    number = _number(raw)
    if number is None:
        problems.append(f"{where}: must be a number, got {raw!r}")
    return number


def _number(raw: Any) -> float | None:
    """``raw`` as a float, if it is a number or the text of one; YAML 1.1 reads 2e-5 as text."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _read_path(_kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(raw, (str, Path)) or not str(raw):
        problems.append(f"{where}: must be a path, got {raw!r}")
        return None
    return Path(raw)


def _read_exact(kind: Any, raw: Any, where: str, problems: list[str]) -> Any:
    if type(raw) is not kind:
        problems.append(f"{where}: must be {_word(kind)}, got {raw!r}")
    return raw


_READERS: dict[Any, Any] = {
    Literal: _read_literal,
    list: _read_sequence,
    tuple: _read_sequence,
    Sequence: _read_sequence,
    dict: _read_mapping,
    Mapping: _read_mapping,
    int: _read_int,
    float: _read_float,
    Path: _read_path,
    str: _read_exact,
    bool: _read_exact,
}

_WORDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


def _word(kind: Any) -> str:
    """What to call ``kind`` in a message."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(repr, get_args(kind)))
    origin = get_origin(kind) or kind
    if dataclasses.is_dataclass(origin):
        return "a mapping"
    return _WORDS.get(origin, getattr(origin, "__name__", str(origin)))
