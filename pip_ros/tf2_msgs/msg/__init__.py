"""TFMessage for `raw` subscriptions and for publishers of serialized messages.

Of a topic's type the middleware wants the name, the hash and the description of its fields; of
messages that are bytes already it wants nothing. geometry_msgs/Polygon has the same shape, one
unbounded sequence of messages: its type support, with the names, the hash and the item type of
TFMessage put in, does for bytes what the generated one does, and needs no compiler. Structures:
message_type_support_struct.h of rosidl_runtime_c, message_type_support.h of
rosidl_typesupport_fastrtps_cpp and message_introspection.h of rosidl_typesupport_introspection_c,
as of Jazzy.
"""

import ctypes
from ctypes import c_bool, c_char_p, c_size_t, c_uint8, c_uint32, c_void_p

from geometry_msgs.msg import Polygon, TransformStamped
from rclpy.type_support import check_for_type_support

__all__ = ['TFMessage']

_NAMESPACE, _NAME, _FIELD = b'tf2_msgs::msg', b'TFMessage', b'transforms'
# RIHS01 of tf2_msgs/msg/TFMessage, the same in every distribution since Iron.
_HASH = 'e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'
_FAST_DDS = b'rosidl_typesupport_fastrtps_c'
_INTROSPECTION = b'rosidl_typesupport_introspection_c'


class _TypeSupport(ctypes.Structure):
    """rosidl_message_type_support_t."""

    _fields_ = [('identifier', c_char_p)] + [
        (name, c_void_p) for name in ('data', 'find', 'hash', 'description', 'sources')
    ]


class _Hash(ctypes.Structure):
    """rosidl_type_hash_t."""

    _fields_ = [('version', c_uint8), ('value', c_uint8 * 32)]


class _Callbacks(ctypes.Structure):
    """message_type_support_callbacks_t."""

    _fields_ = [('namespace', c_char_p), ('name', c_char_p)] + [
        (name, c_void_p) for name in ('serialize', 'deserialize', 'size', 'max_size', 'keys')
    ]


class _Member(ctypes.Structure):
    """rosidl_typesupport_introspection_c__MessageMember."""

    _fields_ = [
        ('name', c_char_p),
        ('type', c_uint8),
        ('string_bound', c_size_t),
        ('item', c_void_p),
        ('is_key', c_bool),
        ('is_array', c_bool),
        ('array_size', c_size_t),
        ('is_bounded', c_bool),
        ('offset', c_uint32),
        ('default', c_void_p),
    ] + [(name, c_void_p) for name in ('size', 'const', 'get', 'fetch', 'assign', 'resize')]


class _Members(ctypes.Structure):
    """rosidl_typesupport_introspection_c__MessageMembers."""

    _fields_ = [
        ('namespace', c_char_p),
        ('name', c_char_p),
        ('count', c_uint32),
        ('size', c_size_t),
        ('has_key', c_bool),
        ('members', c_void_p),
        ('init', c_void_p),
        ('end', c_void_p),
    ]


_Find = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_char_p)
_GiveHash = ctypes.CFUNCTYPE(c_void_p, c_void_p)
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = c_void_p, [ctypes.py_object, c_char_p]
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]


def _support_of(message: type, identifier: bytes) -> _TypeSupport:
    """The type support of a message class for one of the middleware's libraries."""
    check_for_type_support(message)
    generic = _pointer_of(type(message)._TYPE_SUPPORT, None)
    found = _Find(_TypeSupport.from_address(generic).find)(generic, identifier)
    if not found:
        raise ImportError(f'tf2_msgs: expected messages with {identifier.decode()}')
    return _TypeSupport.from_address(found)


class _Renamed:
    """Copies of Polygon's type supports under TFMessage's names; alive as long as the module."""

    def __init__(self) -> None:
        self._hash = _Hash(1, (c_uint8 * 32)(*bytes.fromhex(_HASH)))
        self._give_hash = _GiveHash(lambda _: ctypes.addressof(self._hash))
        self._find = _Find(self._found)
        original = _support_of(Polygon, _FAST_DDS)
        callbacks = _Callbacks.from_buffer_copy(_Callbacks.from_address(original.data))
        callbacks.namespace, callbacks.name = _NAMESPACE, _NAME
        self._callbacks, self._fast_dds = callbacks, self._copy(original, callbacks)
        original = _support_of(Polygon, _INTROSPECTION)
        members = _Members.from_buffer_copy(_Members.from_address(original.data))
        member = _Member.from_buffer_copy(_Member.from_address(members.members))
        member.name = _FIELD
        member.item = ctypes.addressof(_support_of(TransformStamped, _INTROSPECTION))
        members.namespace, members.name = _NAMESPACE, _NAME
        members.members = ctypes.addressof(member)
        self._member, self._members = member, members
        self._introspection = self._copy(original, members)
        self.capsule = _capsule(ctypes.addressof(self._fast_dds), None, None)

    def _copy(self, original: _TypeSupport, data: ctypes.Structure) -> _TypeSupport:
        support = _TypeSupport.from_buffer_copy(original)
        support.data = ctypes.addressof(data)
        support.find = ctypes.cast(self._find, c_void_p)
        support.hash = ctypes.cast(self._give_hash, c_void_p)
        return support

    def _found(self, _: int, identifier: bytes) -> int | None:
        for support in (self._fast_dds, self._introspection):
            if support.identifier == identifier:
                return ctypes.addressof(support)
        return None


_RENAMED = _Renamed()


class _Metaclass(type):
    """What rclpy looks for in the class of a message class."""

    _TYPE_SUPPORT = _RENAMED.capsule
    # Checked for, never called: bytes are not converted.
    _CREATE_ROS_MESSAGE = _CONVERT_FROM_PY = _CONVERT_TO_PY = _DESTROY_ROS_MESSAGE = _TYPE_SUPPORT


class TFMessage(metaclass=_Metaclass):
    """Names the type of a topic; it has no fields."""

    def __init__(self) -> None:
        raise TypeError('this TFMessage only names a type: publish and subscribe bytes')
