"""ROS parameters as views of frozen dataclasses, which alone hold defaults, ranges and meanings.

docs/write_parameters.py writes the parameter file and the documentation's tables from them.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from . import qos

T = TypeVar('T')
Groups = Sequence[tuple[str, type]]
Values = Mapping[type, Any]

# Every node has these; they are set in the same way as its own.
_OF_EVERY_NODE = re.compile(r'use_sim_time|start_type_description_service|qos_overrides\..*')
_MEANING = re.compile(r'^(\w+(?:, \w+)*): (.+(?:\n    .+)*)', re.MULTILINE)


class ParameterError(ValueError):
    """Parameters that a node cannot start with; the text names each and says why."""


class _Entry(NamedTuple):
    group: type
    item: Field
    meaning: str


def meanings(settings: type) -> dict[str, str]:
    """The description of each field from the docstring of a dataclass, in one line each."""
    found = {}
    for names, text in _MEANING.findall(inspect.getdoc(settings) or ''):
        for name in names.split(', '):
            found[name] = ' '.join(text.split())
    return found


def entries(groups: Groups) -> Iterator[tuple[str, _Entry]]:
    """Parameter name and origin of each field; groups: (prefix of the names, dataclass) pairs."""
    for prefix, group in groups:
        texts = meanings(group)
        for item in fields(group):
            yield f'{prefix}{item.name}', _Entry(group, item, texts[item.name])


def descriptor(entry: _Entry) -> ParameterDescriptor:
    """Meaning, unit and range of a parameter, as `ros2 param describe` shows them."""
    message = ParameterDescriptor(description=entry.meaning)
    # A list of whole numbers, such as [0, 0, 0, 0, 0, 0, 1], reaches us as integers.
    message.dynamic_typing = isinstance(entry.item.default, tuple)
    if 'range' in entry.item.metadata:
        low, high = entry.item.metadata['range']
        if isinstance(entry.item.default, int):
            message.integer_range = [IntegerRange(from_value=low, to_value=high)]
        else:
            message.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return message


class Parameters:
    """The parameters of a node, checked as a whole by the dataclasses that they fill.

    groups: (prefix of the names, dataclass) pairs. change: called with the names that are about
    to change and all new values by dataclass; prepares for the change or returns why it is not
    allowed. Unknown names are an error if a file sets them for this node; otherwise they may be
    meant for other nodes and are ignored with a warning. Raises ParameterError.
    """

    def __init__(
        self,
        node: Node,
        groups: Groups,
        change: Callable[[set[str], Values], str | None] = lambda names, values: None,
    ) -> None:
        self._entries = dict(entries(groups))
        self._change = change
        self._raw: dict[str, Any] = {}
        self._check_names(node)
        try:
            qos.check_overrides(node)
            for name, entry in self._entries.items():
                self._raw[name] = _declare(node, name, entry)
            self._values = self._build(self._raw)
        except ValueError as error:
            raise ParameterError(f'parameter {error}') from error
        if hasattr(node, 'add_pre_set_parameters_callback'):  # Humble has none.
            node.add_pre_set_parameters_callback(self._lists_as_declared)
        node.add_on_set_parameters_callback(self._on_set)

    def get(self, group: type[T]) -> T:
        """The current values; a change creates a new object, so objects never change."""
        return self._values[group]

    def _check_names(self, node: Node) -> None:
        given = qos.overrides_of(node).keys()
        unknown = {n for n in given - self._entries.keys() if not _OF_EVERY_NODE.fullmatch(n)}
        own = sorted(unknown & _names_in_own_sections(node.get_name(), sys.argv))
        if own:
            known = f'known: {", ".join(self._entries)}'
            raise ParameterError('; '.join(map(self._stranger, own)) + f' ({known})')
        for name in sorted(unknown):
            node.get_logger().warning(f'{self._stranger(name)}; it is ignored')

    def _stranger(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._entries, 1)
        return f'unknown parameter {name}' + (f'; did you mean {close[0]}?' if close else '')

    def _build(self, raw: Mapping[str, Any]) -> dict[type, Any]:
        values: dict[type, dict[str, Any]] = {}
        for name, entry in self._entries.items():
            default = entry.item.default
            value = _from_ros(name, raw[name], default)
            values.setdefault(entry.group, {})[entry.item.name] = value
        return {group: group(**given) for group, given in values.items()}

    def preview(self, parameters: Sequence[Parameter]) -> tuple[set[str], Values]:
        """Names whose values the parameters would change, and all values then, by dataclass.

        Raises ValueError for rejected values.
        """
        values = self._build(self._candidate(parameters))
        names = {p.name for p in parameters if p.name in self._entries}
        before = self._values
        return {n for n in names if self._of(n, values) != self._of(n, before)}, values

    def _candidate(self, parameters: Sequence[Parameter]) -> dict[str, Any]:
        return self._raw | {p.name: p.value for p in parameters if p.name in self._entries}

    def _lists_as_declared(self, parameters: list[Parameter]) -> list[Parameter]:
        """Lists of integers, and empty ones, which `ros2 param load` sends as booleans."""
        changed = []
        for parameter in parameters:
            entry = self._entries.get(parameter.name)
            if entry is not None and isinstance(entry.item.default, tuple):
                with suppress(ValueError):  # It will be refused with the reason.
                    value = _from_ros(parameter.name, parameter.value, entry.item.default)
                    parameter = _doubles(parameter.name, value)
            changed.append(parameter)
        return changed

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            names, values = self.preview(parameters)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        reason = self._change(names, values) if names else None
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        self._raw, self._values = self._candidate(parameters), values
        return SetParametersResult(successful=True)

    def _of(self, name: str, values: Values) -> Any:
        entry = self._entries[name]
        return getattr(values[entry.group], entry.item.name)


def _declare(node: Node, name: str, entry: _Entry) -> Any:
    """The parameter's value, as given or by default; ParameterError for a wrong type."""
    default = entry.item.default
    try:
        value = node.declare_parameter(name, _to_ros(default), descriptor(entry)).value
    except ParameterException as error:
        raise ParameterError(f'{name}: {error} ({entry.meaning})') from error
    if not isinstance(default, tuple):
        return value
    # To rclpy an empty list is one of bytes, and an empty one of a file (as `ros2 param dump`
    # writes it) is no value at all.
    value = _from_ros(name, [] if value is None else value, default)
    node.set_parameters([_doubles(name, value)])
    return list(value)


def _doubles(name: str, value: Sequence[float]) -> Parameter:
    return Parameter(name, Parameter.Type.DOUBLE_ARRAY, list(value))


def _names_in_own_sections(node: str, arguments: Sequence[str]) -> set[str]:
    """Parameters that files give a node by its name, instead of all nodes by `/**`."""
    names: set[str] = set()
    for flag, path in pairwise(arguments):
        if flag != '--params-file':
            continue
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (OSError, ValueError, yaml.YAMLError):
            continue  # rcl has already read it, with another parser.
        for section, values in _sections(content, ''):
            if section.rpartition('/')[2] == node:
                names.update(_flat(values))
    return names


def _sections(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == 'ros__parameters':
            yield path, value
        else:
            yield from _sections(value, f'{path}/{key}')


def _flat(values: Any, prefix: str = '') -> Iterator[str]:
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}'


def _to_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_ros(name: str, value: Any, default: Any) -> Any:
    """A parameter's value as its dataclass expects it: sequences become tuples of floats."""
    if not isinstance(default, tuple):
        return value
    try:
        return tuple(float(number) for number in value)
    except (TypeError, ValueError) as error:
        # What `ros2 param set` makes of a list with integers and floats.
        mixed = isinstance(value, str) and value.startswith('[')
        hint = ' as a text; write [0.0, 0.5] instead of [0, 0.5]' if mixed else ''
        raise ValueError(f'{name}: expected a list of numbers, got {value!r}{hint}') from error
