"""Writing ROS 2 bags that appear only when they are whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dmd3c_ros.messages.cdr import encode, ros2_types

from .records import BagError, Record, Topic, reliable

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
# Read by every ROS 2 from Humble on; version 9 stores the quality of service in a new form.
_METADATA_VERSION = 8


class BagWriter:
    """Writes the bag folder `path`; it takes that name at the end of the `with` block.

    If the block raises, nothing is left behind. Raises BagError if `path` already exists; if
    something takes the name meanwhile, the error says where the bag is.
    """

    def __init__(self, path: str | Path, storage: str = 'mcap') -> None:
        if storage not in STORAGES:
            raise BagError(f'storage: expected {" or ".join(STORAGES)}, got {storage!r}')
        self.path = Path(path)
        if self.path.exists():
            raise BagError(f'{self.path} already exists; choose a new folder for the bag')
        # A separate folder, because the files inside a bag are named after the bag.
        self._scratch = self.path.with_name(f'.{self.path.name}.{os.getpid()}.tmp')
        self._writer = Writer(
            self._scratch / self.path.name,
            version=_METADATA_VERSION,
            storage_plugin=STORAGES[storage],
        )
        self._connections: dict[tuple[str, str], object] = {}
        self.count = 0

    def __enter__(self) -> BagWriter:
        try:
            self._writer.open()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._writer.__exit__(kind, *rest)
        except BaseException:
            self._discard()
            raise
        whole = self._scratch / self.path.name
        if kind is None:
            try:
                whole.rename(self.path)
            except OSError as error:
                # It may have taken hours to make.
                raise BagError(f'{self.path}: {error.strerror}; the bag is in {whole}') from error
        self._discard()

    def _discard(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def add_topic(self, name: str, kind: str, *, latched: bool = False) -> None:
        """Announce a topic of a common type; without it, `write` announces a plain one."""
        self._connect(Topic(name, kind, qos=(reliable(latched=latched),)), ros2_types())

    def write(self, name: str, kind: str, time_ns: int, message: object) -> None:
        """Write a message, any object or mapping with the fields of its type."""
        if (name, kind) not in self._connections:
            self.add_topic(name, kind)
        self._writer.write(self._connections[name, kind], time_ns, encode(kind, message))
        self.count += 1

    def copy(self, record: Record, typestore: Typestore) -> None:
        """Write a record as it is; typestore: the types of the bag it comes from."""
        if record.topic.key not in self._connections:
            self._connect(record.topic, typestore)
        self._writer.write(self._connections[record.topic.key], record.time_ns, record.data)
        self.count += 1

    def _connect(self, topic: Topic, typestore: Typestore) -> None:
        self._connections[topic.key] = self._writer.add_connection(
            topic.name, topic.type, offered_qos_profiles=topic.qos, **_types_of(topic, typestore)
        )


def _types_of(topic: Topic, typestore: Typestore) -> dict[str, object]:
    """Definition and hash of a topic's type, as it came where it did."""
    for store in (typestore, ros2_types()):
        if topic.type not in store.fielddefs:
            continue
        if topic.definition:
            digest = topic.digest or store.hash_rihs01(topic.type)
            return {'msgdef': topic.definition, 'rihs01': digest}
        try:
            # Typestore keeps a type whose parts the bag does not define: hashing will show it.
            store.hash_rihs01(topic.type)
        except (KeyError, TypesysError):
            continue
        return {'typestore': store}
    # Bags of Humble have no definitions. Players need none; strict readers get an empty one.
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg('', topic.type))
    return {'typestore': store}
