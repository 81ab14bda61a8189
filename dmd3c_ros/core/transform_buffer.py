"""Transforms between named frames over time: what tf2's buffer does, without ROS.

The node fills it from /tf and /tf_static, the commands on bags from the recording, so that both
find the same. Unlike tf2's, it answers for many times at once, and moves bodies between two
transforms as `motion` does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from .motion import interpolate, invert
from .transforms import rotation_from_quaternion, transform

Result = TypeVar('Result')
_FIRST_CAPACITY = 64


class TransformError(ValueError):
    """A transform that is not known (yet); the text says which one and why."""


class LateTransformError(TransformError):
    """A transform whose publisher has not reached the requested time yet."""


class TransformBuffer:
    """Frames, each with one parent, and the transforms of the last `history_s` seconds.

    history_s: None keeps everything. Threads may add and look up at the same time. Stamps are
    integers, ns.
    """

    def __init__(self, history_s: float | None = 10.0) -> None:
        self._history_ns = None if history_s is None else round(history_s * 1e9)
        self._edges: dict[str, _Fixed | _History] = {}
        self._changed = threading.Condition()

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        rotation: Sequence[float],
        *,
        fixed: bool = False,
    ) -> None:
        """Store the child's pose in its parent: translation (m), quaternion x, y, z, w.

        fixed: it holds at all times (/tf_static). The latest parent counts. Raises ValueError
        for a frame that is its own parent, or an invalid pose.
        """
        parent, child = _name(parent), _name(child)
        if not parent or not child or parent == child:
            raise ValueError(f'transform: expected two frames, got {parent!r} and {child!r}')
        length = math.hypot(*rotation)
        if not (0 < length < math.inf and all(map(math.isfinite, translation))):
            raise ValueError(
                f'transform from {child!r} to {parent!r}: expected finite numbers and a rotation '
                f'that is not zero, got {(*translation, *rotation)}'
            )
        with self._changed:
            if fixed:
                T = transform(rotation_from_quaternion(rotation), translation)
                self._edges[child] = _Fixed(parent, T)
            else:
                edge = self._edges.get(child)
                if not isinstance(edge, _History) or edge.parent != parent:
                    edge = self._edges[child] = _History(parent, child, self._history_ns)
                edge.add(stamp_ns, (*translation, *(part / length for part in rotation)))
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all but the fixed transforms."""
        with self._changed:
            self._edges = {c: e for c, e in self._edges.items() if isinstance(e, _Fixed)}

    def lookup(self, target: str, source: str, stamps_ns: int | np.ndarray) -> np.ndarray:
        """T_target_source (4, 4) at a time, or (K, 4, 4) at times (K,); else TransformError."""
        target, source = _name(target), _name(source)
        times = np.atleast_1d(np.asarray(stamps_ns, np.int64))
        with self._changed:
            try:
                T = self._find(target, source, times)
            except TransformError as error:
                raise type(error)(
                    f'no transform from {source!r} to {target!r}: {error}'
                ) from error
        return T[0] if np.ndim(stamps_ns) == 0 else T

    def lookup_full(
        self, target: str, target_ns: int, source: str, source_ns: int | np.ndarray, fixed: str
    ) -> np.ndarray:
        """Transform from `source` at one or several times to `target` at another time.

        Assumes that points are static in the frame `fixed` (odom, map): T_target_source (4, 4)
        or (K, 4, 4) takes a point seen at source_ns to where the target sees it at target_ns.
        """
        T_target_fixed = self.lookup(target, fixed, target_ns)
        return T_target_fixed @ self.lookup(fixed, source, source_ns)

    def wait_for(self, ask: Callable[[], Result], until_s: float) -> Result:
        """The result of `ask`, repeated for every new transform while it raises TransformError.

        From until_s on, in the time of time.monotonic(), the error is raised.
        """
        with self._changed:
            while True:
                try:
                    return ask()
                except TransformError:
                    left = until_s - time.monotonic()
                    if left <= 0:
                        raise
                    self._changed.wait(left)

    def _find(self, target: str, source: str, times: np.ndarray) -> np.ndarray:
        """T_target_source (K, 4, 4), over the nearest frame that is above both."""
        identity = np.broadcast_to(np.eye(4), (len(times), 4, 4))
        if target == source:
            return identity
        for frame in (source, target):
            self._check_known(frame)
        above_source, above_target = self._ancestry(source), self._ancestry(target)
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            raise TransformError(
                f'{above_source[-1]!r} and {above_target[-1]!r}, the roots above them, are not '
                'connected'
            )
        T_common_source = self._chain(above_source, common, times, identity)
        return invert(self._chain(above_target, common, times, identity)) @ T_common_source

    def _check_known(self, frame: str) -> None:
        known = set(self._edges) | {edge.parent for edge in self._edges.values()}
        if frame not in known:
            frames = ', '.join(sorted(known)) or 'none'
            raise TransformError(f'TF has no frame {frame!r} (its frames: {frames})')

    def _ancestry(self, frame: str) -> list[str]:
        """The frame and those above it; each once, even where parents run in a circle."""
        frames = [frame]
        while frame in self._edges and self._edges[frame].parent not in frames:
            frame = self._edges[frame].parent
            frames.append(frame)
        return frames

    def _chain(self, frames: list[str], top: str, times: np.ndarray, T: np.ndarray) -> np.ndarray:
        """T_top_frame (K, 4, 4) for the first of the frames."""
        for frame in frames[: frames.index(top)]:
            T = self._edges[frame].at(times) @ T
        return T


class _Fixed:
    """A pose in the parent that holds at all times."""

    def __init__(self, parent: str, T: np.ndarray) -> None:
        self.parent, self._T = parent, T[None]

    def at(self, times: np.ndarray) -> np.ndarray:
        """(1, 4, 4)."""
        return self._T


class _History:
    """Poses in the parent, by time."""

    def __init__(self, parent: str, child: str, length_ns: int | None) -> None:
        self.parent = parent
        self._child, self._length_ns = child, length_ns
        self._stamps = np.empty(_FIRST_CAPACITY, np.int64)
        self._poses = np.empty((_FIRST_CAPACITY, 7))
        self._first = self._end = 0

    def add(self, stamp_ns: int, pose: Sequence[float]) -> None:
        """Take over a pose (7,); one with the same stamp is replaced."""
        if self._end > self._first and stamp_ns <= self._stamps[self._end - 1]:
            self._insert(stamp_ns, pose)
            return
        if self._end == len(self._stamps):
            self._make_room()
        self._stamps[self._end], self._poses[self._end] = stamp_ns, pose
        self._end += 1
        if self._length_ns:
            while self._stamps[self._first] < stamp_ns - self._length_ns:
                self._first += 1

    def _insert(self, stamp_ns: int, pose: Sequence[float]) -> None:
        """Take over a pose that is not the newest."""
        stamps = self._stamps[self._first : self._end]
        if self._length_ns and stamp_ns < stamps[-1] - self._length_ns:
            # Time was set back, as when a bag restarts: stored transforms are useless.
            self._first = self._end = 0
            self.add(stamp_ns, pose)
            return
        place = self._first + int(np.searchsorted(stamps, stamp_ns))
        if self._stamps[place] == stamp_ns:
            self._poses[place] = pose
            return
        if self._end == len(self._stamps):
            place -= self._make_room()
        for array, value in ((self._stamps, stamp_ns), (self._poses, pose)):
            array[place + 1 : self._end + 1] = array[place : self._end]
            array[place] = value
        self._end += 1

    def at(self, times: np.ndarray) -> np.ndarray:
        """T_parent_child (K, 4, 4); TransformError outside the time that is known."""
        stamps = self._stamps[self._first : self._end]
        early, late = stamps[0] - times.min(), times.max() - stamps[-1]
        if early > 0 or late > 0:
            gap, side = (late, 'after the last') if late > 0 else (early, 'before the first')
            raise (LateTransformError if late > 0 else TransformError)(
                f'{gap * 1e-9:.3f} s {side} transform from {self._child!r} to {self.parent!r}'
            )
        before = np.searchsorted(stamps, times, 'right') - 1
        after = np.minimum(before + 1, len(stamps) - 1)
        span = np.maximum(stamps[after] - stamps[before], 1)
        poses = self._poses[self._first : self._end]
        start, end = poses[before], poses[after]
        return interpolate(
            (start[:, :3], start[:, 3:]),
            (end[:, :3], end[:, 3:]),
            (times - stamps[before]) / span,
        )

    def _make_room(self) -> int:
        """Space for one more at the end; by how much everything moved down."""
        first, count = self._first, self._end - self._first
        # Half the space is enough where as much has been forgotten.
        capacity = max(_FIRST_CAPACITY, len(self._stamps) * (1 if first >= count else 2))
        for name in ('_stamps', '_poses'):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), old.dtype)
            new[:count] = old[first : self._end]
            setattr(self, name, new)
        self._first, self._end = 0, count
        return first


def _name(frame: str) -> str:
    """Frame names of ROS 1 may start with a slash."""
    return frame.lstrip('/')
