"""Settings with a range, which a dataclass names in its field's metadata."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any


def ranged(default: float, low: float, high: float) -> Any:
    """Field of a dataclass with a default and a closed range that `check_ranges` holds it to."""
    return field(default=default, metadata={'range': (low, high)})


def same_as(settings: type, name: str) -> Any:
    """Field with the default and the range of a field of another dataclass."""
    item = next(item for item in fields(settings) if item.name == name)
    return field(default=item.default, metadata=item.metadata)


def check_ranges(settings: Any) -> None:
    """Raise ValueError for a number outside its field's range."""
    for item in fields(settings):
        if 'range' not in item.metadata:
            continue
        value, (low, high) = getattr(settings, item.name), item.metadata['range']
        if not low <= value <= high:
            raise ValueError(f'{item.name}: expected {low} to {high}, got {value}')
