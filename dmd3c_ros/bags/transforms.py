"""The transforms that a bag has recorded."""

from __future__ import annotations

import logging

from dmd3c_ros.core.transform_buffer import TransformBuffer
from dmd3c_ros.messages.tf import TF_TYPE, add_transforms

from .reader import Bag
from .records import BagError

_log = logging.getLogger(__name__)


class RecordedTransforms(TransformBuffer):
    """The transforms of a bag; /tf is read only where something depends on it.

    That takes a second pass over the whole recording.
    """

    def __init__(self, bag: Bag) -> None:
        super().__init__(history_s=None)
        self._bag = bag
        self.is_complete = False
        self._read(fixed=True)

    def read_moving(self) -> None:
        """Read /tf too, once."""
        if not self.is_complete:
            self.is_complete = True
            self._read(fixed=False)

    def _read(self, *, fixed: bool) -> None:
        """Add the messages of topics named tf_static (`fixed`), or of all others of the type."""
        topics = [
            topic
            for topic in self._bag.of_type(TF_TYPE)
            if (topic.name.rsplit('/', 1)[-1] == 'tf_static') == fixed
        ]
        for record in self._bag.records(topics):
            try:
                add_transforms(self, self._bag.decode(record).transforms, fixed=fixed)
            except BagError as error:
                _log.warning('%s', error)


def read_transforms(bag: Bag) -> RecordedTransforms:
    """All transforms of a bag."""
    transforms = RecordedTransforms(bag)
    transforms.read_moving()
    return transforms
