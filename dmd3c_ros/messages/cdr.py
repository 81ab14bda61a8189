"""Messages <-> CDR bytes, by the definitions of ROS 2 that rosbags carries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore


@lru_cache(maxsize=1)
def ros2_types() -> Typestore:
    """Definitions of the common packages; those written here are the same in every ROS 2."""
    return get_typestore(Stores.ROS2_HUMBLE)


def encode(typename: str, source: Any) -> memoryview:
    """CDR bytes of a message of type 'package/msg/Name'.

    source: any object with the fields as attributes (a message of ROS, of rosbags, a stand-in),
    or a mapping, whose missing fields are zero or empty.
    """
    return ros2_types().serialize_cdr(_build(typename, source), typename)


def _build(typename: str, source: Any) -> Any:
    store = ros2_types()
    values = [_value(kind, _field(source, name)) for name, kind in store.fielddefs[typename][1]]
    return store.types[typename](*values)


def _field(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    return getattr(source, name)


def _value(kind: tuple, value: Any) -> Any:
    """A field's value as rosbags expects it; None means the default."""
    node, detail = kind
    if node == Nodetype.NAME:
        return _build(detail, {} if value is None else value)
    if node == Nodetype.BASE:
        if detail[0] == 'string':
            return value or ''
        return 0 if value is None else value
    (item_node, item), count = detail[0], detail[1] if node == Nodetype.ARRAY else 0
    if item_node == Nodetype.BASE and item[0] != 'string':
        dtype = np.dtype('uint8' if item[0] in ('char', 'octet', 'byte') else item[0])
        return np.zeros(count, dtype) if value is None else np.asarray(value, dtype).ravel()
    return [_value(detail[0], element) for element in ([None] * count if value is None else value)]
