"""Settings as frozen dataclasses, read strictly from YAML and from the command line."""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar('T')


def load(cls: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into a dataclass.

    overrides: 'key=value' or 'key.key=value' with the value in YAML, applied after the file;
    'key=' is the empty text.
    Raises FileNotFoundError, and ValueError for unknown keys and invalid values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'configuration: no file {path}')
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f'{path}: expected YAML: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected keys and values, got {type(content).__name__}')
    try:
        return from_dict(cls, _changed(content, overrides))
    except ValueError as error:
        raise ValueError(f'{_blamed(cls, path, content, overrides)}: {error}') from error


def _changed(content: dict, overrides: Sequence[str]) -> dict:
    content = copy.deepcopy(content)
    for override in overrides:
        _override(content, override)
    return content


def _blamed(cls: type, path: Path, content: dict, overrides: Sequence[str]) -> str:
    """The source of an error in the settings: the first invalid override, or else the file.

    The file alone may lack what the overrides give, and so be wrong in another way.
    """
    faults = []
    for count in range(len(overrides) + 1):
        try:
            from_dict(cls, _changed(content, overrides[:count]))
            faults.append(None)
        except ValueError as error:
            faults.append(str(error))
    for override, before, after in zip(overrides, faults, faults[1:], strict=False):
        if after == faults[-1] != before:
            return f'--set {override}'
    return str(path)


def _override(content: dict, override: str) -> None:
    key, equals, value = override.partition('=')
    if not equals or not key:
        raise ValueError(f'--set: expected key=value, got {override!r}')
    *parents, last = key.split('.')
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ValueError(f'{key}: {parent} is a value, not a group of settings')
    try:
        content[last] = yaml.safe_load(value) if value else ''
    except yaml.YAMLError as error:
        raise ValueError(f'{key}: expected a value in YAML, got {value!r}: {error}') from error


def from_dict(cls: type[T], content: dict, where: str = '') -> T:
    """Build a dataclass, and those inside it, from nested dictionaries.

    A dataclass with a class method ``named`` may be given by a name instead, or by the key 'like'
    and what differs from the one of that name. Raises ValueError that names an unknown key (and
    the known ones) or a value of another type.
    """
    if 'like' in content and hasattr(cls, 'named'):
        changes = {key: value for key, value in content.items() if key != 'like'}
        content = _merged(cls.named(content['like']), changes)
    known = {field.name for field in fields(cls)}
    unknown = sorted(str(key) for key in content.keys() - known)
    if unknown:
        raise ValueError(
            f'unknown {", ".join(where + key for key in unknown)}; '
            f'expected some of {", ".join(sorted(known))}'
        )
    kinds = typing.get_type_hints(cls)
    values = {key: _convert(kinds[key], value, where + key) for key, value in content.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f'{where or cls.__name__}: {error}') from error


def _merged(base: Any, changes: dict) -> dict:
    """Fields of a dataclass as a dictionary, with changes to it and to those inside it."""
    merged = {field.name: getattr(base, field.name) for field in fields(base)}
    for key, value in changes.items():
        inner = merged.get(key)
        nested = is_dataclass(inner) and isinstance(value, dict)
        merged[key] = _merged(inner, value) if nested else value
    return merged


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(kind) and isinstance(value, kind):
        return value
    if hasattr(kind, 'named') and isinstance(value, str):
        return kind.named(value)
    if is_dataclass(kind) and isinstance(value, dict):
        return from_dict(kind, value, where + '.')
    if origin is tuple and isinstance(value, list | tuple):
        each = [arguments[0]] * len(value) if Ellipsis in arguments else list(arguments)
        if len(each) != len(value):
            raise ValueError(f'{where}: expected {len(each)} values, got {value}')
        return tuple(_convert(k, v, where) for k, v in zip(each, value, strict=True))
    if origin is dict and isinstance(value, dict):
        return {str(k): _convert(arguments[1], v, f'{where}.{k}') for k, v in value.items()}
    if kind is float:
        # YAML 1.1 takes 1e-3 for text.
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                pass
    elif kind in (int, bool, str) and type(value) is kind:
        return value
    name = kind.__name__ if isinstance(kind, type) else str(kind)
    raise ValueError(f'{where}: expected {name}, got {value!r}')
