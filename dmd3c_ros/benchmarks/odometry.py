"""What depth is worth to odometry: one drive, one method, several depth images of each frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmd3c_ros.core.completer import DepthCompleter
from dmd3c_ros.core.projection import remove_hidden_points
from dmd3c_ros.datasets.drives import DriveFrame
from dmd3c_ros.io.atomic import write_json
from dmd3c_ros.pipeline.arrays import complete_sparse
from dmd3c_ros.slam import trajectories
from dmd3c_ros.slam.odometry import OdometrySettings, RgbdOdometry
from dmd3c_ros.slam.reference import Reference

RAW = 'raw sparse'


@dataclass(frozen=True)
class Entry:
    """One kind of depth: fraction of pixels that it knows, its trajectory, frames not aligned."""

    known: float
    lost: int
    error: trajectories.TrajectoryError
    trajectory: Any


@dataclass(frozen=True)
class Comparison:
    """Entries by kind of depth, against one reference."""

    source: str
    reference_name: str
    reference: Any
    settings: OdometrySettings
    entries: Mapping[str, Entry]

    def table(self) -> str:
        """The numbers as a Markdown table."""
        lines = [
            '| depth | pixels known | ATE (m) | end (% of way) | RPE (cm) | RPE (deg) | lost |',
            '| --- | --- | --- | --- | --- | --- | --- |',
        ]
        for name, entry in self.entries.items():
            error = entry.error
            lines.append(
                f'| {name} | {entry.known:.1%} | {error.ate_m:.3f} | {error.end_percent:.1f} | '
                f'{100 * error.rpe_m:.1f} | {error.rpe_deg:.3f} | {entry.lost} |'
            )
        return '\n'.join(lines)

    def title(self) -> str:
        """Drive, length and reference in one line."""
        way = self.reference.path_length
        return (
            f'{self.source}: {self.reference.num_poses} frames, {way:.1f} m; '
            f'reference: {self.reference_name}'
        )

    def write(self, folder: Path) -> None:
        """Write odometry.json, trajectory.png and each trajectory in TUM's form."""
        folder.mkdir(parents=True, exist_ok=True)
        estimates = {name: entry.trajectory for name, entry in self.entries.items()}
        for name, estimate in {'reference': self.reference, **estimates}.items():
            trajectories.write_tum(folder / f'{name.replace(" ", "_")}.txt', estimate)
        trajectories.draw(folder / 'trajectory.png', self.title(), self.reference, estimates)
        numbers = {
            'source': self.source,
            'reference': self.reference_name,
            'frames': self.reference.num_poses,
            'path_m': self.reference.path_length,
            'settings': asdict(self.settings),
            'depth': {
                name: {'known': e.known, 'lost': e.lost, **asdict(e.error)}
                for name, e in self.entries.items()
            },
        }
        write_json(folder / 'odometry.json', numbers)


def compare(
    source: str,
    frames: Iterable[DriveFrame],
    completers: Mapping[str, DepthCompleter],
    settings: OdometrySettings | None = None,
) -> Comparison:
    """Track the camera with the raw sparse depth and with that of each completer.

    The first motion is the reference's, as from wheel odometry: a direct method that starts from
    standstill locks on to the traffic ahead instead of the static scene. Raises ValueError for
    fewer than 3 frames.
    """
    settings = settings or OdometrySettings()
    reference, stamps = Reference(), []
    trackers: dict[str, RgbdOdometry] = {}
    known: dict[str, list[float]] = {name: [] for name in (RAW, *completers)}
    for frame in frames:
        stamps.append(frame.stamp_ns)
        pose = reference.add(frame)
        for name, depth in _depths(frame, completers):
            tracker = trackers.setdefault(name, RgbdOdometry(frame.camera, settings))
            if len(stamps) == 2:
                tracker.motion = pose
            tracker.add(frame.rgb, depth)
            known[name].append(float((depth > 0).mean()))
    if len(stamps) < 3:
        raise ValueError(f'odometry: expected at least 3 frames, got {len(stamps)}')
    truth = trajectories.trajectory(stamps, reference.poses)
    entries = {}
    for name, tracker in trackers.items():
        estimate = trajectories.trajectory(stamps, tracker.poses)
        error = trajectories.score(truth, estimate)
        entries[name] = Entry(float(np.mean(known[name])), tracker.lost, error, estimate)
    return Comparison(source, reference.name, truth, settings, entries)


def _depths(
    frame: DriveFrame, completers: Mapping[str, DepthCompleter]
) -> Iterable[tuple[str, np.ndarray]]:
    sparse = frame.sparse()
    # A point that the camera cannot see would only mislead.
    yield RAW, remove_hidden_points(sparse)
    for name, completer in completers.items():
        yield name, complete_sparse(completer, frame.rgb, sparse, frame.camera.K)[1].depth
