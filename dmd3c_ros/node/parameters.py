"""ROS parameters as views of frozen dataclasses, which alone hold defaults, ranges and meanings.

docs/write_parameters.py writes the parameter file and the documentation's tables from them.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, NamedTuple, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

T = TypeVar('T')
Groups = Sequence[tuple[str, type]]
Values = Mapping[type, Any]

# Every node has these; they reach it the same way as its own.
_OF_EVERY_NODE = re.compile(r'use_sim_time|start_type_description_service|qos_overrides\..*')
_MEANING = re.compile(r'^(\w+(?:, \w+)*): (.+(?:\n    .+)*)', re.MULTILINE)


class ParameterError(ValueError):
    """Parameters that a node cannot start with; the text names each and says why."""


class _Entry(NamedTuple):
    group: type
    item: Field
    meaning: str


def meanings(settings: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, in one line each."""
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

    groups: (prefix of the names, dataclass) pairs. change: given the names whose values are about
    to change and all values as they would be, by dataclass, prepares for it, or says why they may
    not. The node must have been made with automatically_declare_parameters_from_overrides=True:
    that is how names nobody knows are seen. Raises ParameterError.
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
        given = set(node.get_parameters_by_prefix(''))
        self._check_names(given)
        for name, entry in self._entries.items():
            if name in given:
                node.undeclare_parameter(name)
            try:
                self._raw[name] = node.declare_parameter(
                    name, _to_ros(entry.item.default), descriptor(entry)
                ).value
            except ParameterException as error:
                raise ParameterError(f'parameter {name}: {error} ({entry.meaning})') from error
        try:
            self._values = self._build(self._raw)
        except ValueError as error:
            raise ParameterError(f'parameter {error}') from error
        node.add_on_set_parameters_callback(self._on_set)

    def get(self, group: type[T]) -> T:
        """The present values; a change makes a new object, so one object never changes."""
        return self._values[group]

    def _check_names(self, given: set[str]) -> None:
        unknown = [n for n in given - self._entries.keys() if not _OF_EVERY_NODE.fullmatch(n)]
        if not unknown:
            return
        close = difflib.get_close_matches(unknown[0], self._entries)
        hint = f'did you mean {close[0]}?' if close else f'known: {", ".join(self._entries)}'
        raise ParameterError(f'unknown parameter {", ".join(sorted(unknown))}; {hint}')

    def _build(self, raw: Mapping[str, Any]) -> dict[type, Any]:
        values: dict[type, dict[str, Any]] = {}
        for name, entry in self._entries.items():
            default = entry.item.default
            value = _from_ros(name, raw[name], default)
            values.setdefault(entry.group, {})[entry.item.name] = value
        return {group: group(**given) for group, given in values.items()}

    def preview(self, parameters: Sequence[Parameter]) -> tuple[set[str], Values]:
        """Names whose values the parameters would change, and all values then, by dataclass.

        Raises ValueError for values that are refused.
        """
        values = self._build(self._candidate(parameters))
        names = {p.name for p in parameters if p.name in self._entries}
        before = self._values
        return {n for n in names if self._of(n, values) != self._of(n, before)}, values

    def _candidate(self, parameters: Sequence[Parameter]) -> dict[str, Any]:
        return self._raw | {p.name: p.value for p in parameters if p.name in self._entries}

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


def _to_ros(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_ros(name: str, value: Any, default: Any) -> Any:
    """A parameter's value as its dataclass wants it: sequences become tuples of floats."""
    if not isinstance(default, tuple):
        return value
    try:
        return tuple(float(number) for number in value)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{name}: expected a list of numbers, got {value!r}') from error
