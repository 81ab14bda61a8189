"""The value of dense depth for SLAM: ORB-SLAM3 on one drive with several kinds of depth.

Everything is kept in the output folder: the sequence of each kind of depth, and each run. Existing
results are reused, so that an interrupted benchmark can be resumed.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from dmd3c_ros.core.completer import Completion, DepthCompleter
from dmd3c_ros.core.projection import remove_hidden_points
from dmd3c_ros.core.selection import PRESETS, DepthSelection
from dmd3c_ros.datasets.drives import Drive, DriveFrame
from dmd3c_ros.io.atomic import write_json
from dmd3c_ros.io.depth_png import TUM_SCALE
from dmd3c_ros.io.tum import TumWriter
from dmd3c_ros.pipeline.arrays import complete_sparse
from dmd3c_ros.slam import trajectories
from dmd3c_ros.slam.orbslam3 import Track
from dmd3c_ros.slam.reference import Reference

RAW, EXACT, MONOCULAR = 'raw', 'exact', 'monocular'
# Steps of 2 mm up to 131 m, far enough for streets. Rooms have TUM's own, which end at 13 m: what
# ORB-SLAM3 calls close, and how far it trusts depth, follow from the reach.
_STREET_SCALE = 500.0
_ROOM = 10.0  # m


@dataclass(frozen=True)
class DepthKind:
    """Depth to run with: that of a model, without low confidence, edges or large range.

    model: 'raw' for the points themselves, 'exact' for the simulator's depth, with which no
    completion can compete, 'monocular' for none at all, else as for `CompleterConfig`.
    """

    model: str
    selection: DepthSelection = PRESETS['all']

    @classmethod
    def parse(cls, text: str) -> DepthKind:
        """`MODEL[,slam][,confidence=C][,no-edges][,range=M]`; ValueError for anything else."""
        model, *options = text.split(',')
        selection = PRESETS['all']
        for option in options:
            name, _, number = option.partition('=')
            try:
                if option == 'no-edges':
                    selection = replace(selection, edges=False)
                elif name == 'confidence':
                    selection = replace(selection, min_confidence=float(number))
                elif name == 'range':
                    selection = replace(selection, max_depth=float(number))
                else:
                    selection = PRESETS[option]
            except (ValueError, KeyError):
                raise ValueError(
                    'depth: expected MODEL[,slam][,confidence=C][,no-edges][,range=M], '
                    f'got {text!r}'
                ) from None
        return cls(model, selection)

    @property
    def name(self) -> str:
        """As `parse` takes it."""
        chosen = self.selection
        presets = [name for name, preset in PRESETS.items() if chosen == preset != PRESETS['all']]
        if presets:
            return f'{self.model},{presets[0]}'
        parts = [self.model]
        parts += [f'confidence={chosen.min_confidence:g}'] * (chosen.min_confidence > 0)
        parts += ['no-edges'] * (not chosen.edges)
        parts += [f'range={chosen.max_depth:g}'] * (chosen.max_depth < np.inf)
        return ','.join(parts)

    @property
    def sensor(self) -> str:
        """As `OrbSlam3.track` takes it."""
        return 'MONOCULAR' if self.model == MONOCULAR else 'RGBD'

    def select(self, completion: Completion) -> np.ndarray:
        """Depth (H, W) float32, m, 0 = unknown or removed."""
        return self.selection.select(*completion)


def write_sequences(
    out: Path,
    frames: Iterable[DriveFrame],
    kinds: Iterable[DepthKind],
    completers: Mapping[str, DepthCompleter],
) -> None:
    """Write each kind's sequence into `out`, and drive.json: stamps, reference, depth's errors."""
    reference, stamps = Reference(), []
    kinds = list(kinds)
    known: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    errors: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for kind in kinds:
        shutil.rmtree(out / kind.name, ignore_errors=True)
    frames = iter(frames)
    first = next(frames)
    scale = TUM_SCALE if first.sparse().max() < _ROOM else _STREET_SCALE
    with ExitStack() as stack:
        writers = {kind: stack.enter_context(TumWriter(out / kind.name, scale)) for kind in kinds}
        for frame in chain([first], frames):
            stamps.append(frame.stamp_ns)
            reference.add(frame)
            done = _completions(frame, {kind.model for kind in kinds}, completers)
            for kind, writer in writers.items():
                depth = kind.select(done[kind.model])
                writer.add(frame.stamp_ns, frame.rgb, depth, frame.camera, reference.poses[-1])
                known[kind.name].append(float((depth > 0).mean()))
                if frame.depth is not None:
                    both = (depth > 0) & (frame.depth > 0)
                    if both.any():
                        errors[kind.name].append(float(np.abs(depth - frame.depth)[both].mean()))
    drive = {
        'kinds': [kind.name for kind in kinds],
        'reference': reference.name,
        'stamps_ns': stamps,
        'poses': [pose.tolist() for pose in reference.poses],
        'known': {name: float(np.mean(values)) for name, values in known.items()},
        'mae_m': {name: float(np.mean(v)) if v else None for name, v in errors.items()},
    }
    write_json(out / 'drive.json', drive)


def _completions(
    frame: DriveFrame, models: set[str], completers: Mapping[str, DepthCompleter]
) -> dict[str, Completion]:
    sparse, found = frame.sparse(), {}
    for model in models:
        if model == RAW:
            # A point that the camera cannot see would only mislead.
            visible = remove_hidden_points(sparse)
            found[model] = Completion(visible, (visible > 0).astype(np.float32))
        elif model == MONOCULAR:
            found[model] = Completion(np.zeros_like(sparse), np.zeros_like(sparse))
        elif model == EXACT:
            if frame.depth is None:
                raise ValueError('depth: a recorded drive has no exact depth')
            found[model] = Completion(frame.depth, np.ones_like(frame.depth))
        else:
            completer = completers[model]
            found[model] = complete_sparse(completer, frame.rgb, sparse, frame.camera.K)[1]
    return found


@dataclass(frozen=True)
class RunError:
    """One run: frames in the map that lasted longest, and the number of maps; errors of those
    frames after the best rigid alignment, or None with fewer than 3. RPE is of each frame and the
    one tracked before it. Without depth the alignment takes the scale from the reference too."""

    tracked: int
    maps: int
    ate_m: float | None = None
    rpe_m: float | None = None
    rpe_deg: float | None = None


def score(drive: Mapping[str, Any], track: Track, sensor: str = 'RGBD') -> tuple[RunError, Any]:
    """Error of a track, and its trajectory as evo's, aligned; None with too few frames."""
    # Poses in two maps do not compare.
    lengths = Counter(track.maps)
    longest, count = lengths.most_common(1)[0] if lengths else (0, 0)
    if count < 3:
        return RunError(count, len(lengths)), None
    chosen = [n for n, number in enumerate(track.maps) if number == longest]
    frames = [track.frames[n] for n in chosen]
    stamps = [drive['stamps_ns'][frame] for frame in frames]
    truth = trajectories.trajectory(stamps, [np.array(drive['poses'][frame]) for frame in frames])
    estimate = trajectories.trajectory(stamps, [track.poses[n] for n in chosen])
    _align(truth, estimate, correct_scale=sensor == 'MONOCULAR')
    error = trajectories.score(truth, estimate)
    return RunError(count, len(lengths), error.ate_m, error.rpe_m, error.rpe_deg), estimate


def _align(truth: Any, estimate: Any, correct_scale: bool) -> None:
    """Move the estimate onto the truth; by the first pose on a straight way, around which the
    rest could turn."""
    from evo.core.geometry import GeometryException

    try:
        estimate.align(truth, correct_scale=correct_scale)
    except GeometryException:
        if correct_scale:
            estimate.scale(truth.path_length / estimate.path_length)
        estimate.align_origin(truth)


def run(
    out: Path,
    drive: Drive,
    kinds: list[DepthKind],
    make_completer: Callable[[str], DepthCompleter],
    track: Callable[[Path, str], Track],
    runs: int,
    progress: Callable[[str], object] = lambda text: None,
    title: str = 'ORB-SLAM3 (RGB-D)',
) -> dict[str, list[RunError]]:
    """Errors of all runs by kind. track: runs the SLAM system on a sequence's folder, with the
    sensor 'RGBD' or 'MONOCULAR'.

    The first run of every kind comes first, then the second. Raises what `track` raises.
    """
    path = out / 'drive.json'
    names = [kind.name for kind in kinds]
    stored = json.loads(path.read_text()) if path.is_file() else None
    if stored is None or len(stored['stamps_ns']) != len(drive) or stored['kinds'] != names:
        models = dict.fromkeys(kind.model for kind in kinds)
        without = (RAW, EXACT, MONOCULAR)
        completers = {model: make_completer(model) for model in models if model not in without}
        shutil.rmtree(out / 'runs', ignore_errors=True)
        counted = _counted(drive, progress)
        write_sequences(out, counted, kinds, completers)
        stored = json.loads(path.read_text())
    results: dict[str, list[RunError]] = {name: [] for name in names}
    first: dict[str, Any] = {}
    for number in range(runs):
        for kind in kinds:
            name = kind.name
            progress(f'{name}, run {number + 1} of {runs}')
            kept = out / f'runs/{name}_{number}.json'
            done = _tracked(kept, partial(track, out / name, kind.sensor))
            error, estimate = score(stored, done, kind.sensor)
            results[name].append(error)
            if error.tracked == len(drive):
                first.setdefault(name, estimate)
        write_results(out, stored, results, first, title)
    return results


def _counted(drive: Drive, progress: Callable[[str], object]) -> Iterable[DriveFrame]:
    for number, frame in enumerate(drive):
        progress(f'frame {number + 1} of {len(drive)}')
        yield frame


def _tracked(path: Path, track: Callable[[], Track]) -> Track:
    if path.is_file():
        found = json.loads(path.read_text())
        poses = tuple(np.array(pose) for pose in found['poses'])
        return Track(tuple(found['frames']), poses, tuple(found['maps']))
    done = track()
    path.parent.mkdir(exist_ok=True)
    poses = [pose.tolist() for pose in done.poses]
    write_json(path, {'frames': list(done.frames), 'poses': poses, 'maps': list(done.maps)})
    return done


def write_results(
    out: Path,
    drive: Mapping[str, Any],
    results: Mapping[str, list[RunError]],
    estimates: Mapping[str, Any],
    title: str,
) -> None:
    """Write slam.json, slam.md and trajectory.png."""
    runs = {name: [asdict(error) for error in errors] for name, errors in results.items()}
    about = {key: drive[key] for key in ('reference', 'known', 'mae_m')}
    write_json(out / 'slam.json', {**about, 'runs': runs})
    (out / 'slam.md').write_text(table(drive, results) + '\n')
    if estimates:
        poses = [np.array(pose) for pose in drive['poses']]
        truth = trajectories.trajectory(drive['stamps_ns'], poses)
        trajectories.draw(out / 'trajectory.png', title, truth, dict(estimates))


def table(drive: Mapping[str, Any], results: Mapping[str, list[RunError]]) -> str:
    """Medians, and from the least to the largest, as a Markdown table."""
    lines = [
        '| depth | known | MAE (m) | tracked | ATE (m) | RPE (cm) | RPE (deg) |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    total = len(drive['stamps_ns'])
    for name, errors in results.items():
        mae = drive['mae_m'][name]
        tracked = median(error.tracked for error in errors)
        cells = [
            name,
            f'{drive["known"][name]:.1%}',
            '' if mae is None else f'{mae:.3f}',
            f'{tracked:g} of {total}',
            _spread([error.ate_m for error in errors], 1, 4),
            _spread([error.rpe_m for error in errors], 100, 2),
            _spread([error.rpe_deg for error in errors], 1, 3),
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _spread(values: list[float | None], unit: float, digits: int) -> str:
    known = [unit * value for value in values if value is not None]
    if not known:
        return 'lost'
    low, high = min(known), max(known)
    return f'{median(known):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})'
