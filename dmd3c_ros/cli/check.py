"""`dmd3c check`: is a recording fit to be completed? The first command on one's own data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BAG, COMPLETION, HIDDEN_POINTS, SELECTION, with_options, with_out

if TYPE_CHECKING:
    import numpy as np

    from dmd3c_ros.bags.frames import FrameSource
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.core.camera import Camera
    from dmd3c_ros.evaluation.alignment import ClockOffset, Shift, View

# How a bag is read; nothing is completed.
_READING = {
    name: option
    for name, option in BAG.items()
    if name not in {**COMPLETION, **SELECTION, **HIDDEN_POINTS}
}
_RUNS, _RUN = 4, 10
_SHOWN = 3
_OK, _WARNING, _FAULT = 'ok', 'look', 'FAULT'


@dataclass
class _Report:
    """What was found, line by line, and what to do about it."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def add(self, mark: str, text: str) -> None:
        self.lines.append((mark, text))

    @property
    def is_fit(self) -> bool:
        return not any(mark == _FAULT for mark, _ in self.lines)

    def to_text(self) -> str:
        return '\n'.join(f'[{mark:^5}] {text}' for mark, text in self.lines)


@dataclass
class _Recording:
    """The recording to check. runs: sequences of consecutive images, each with its points."""

    runs: 'list[list[View]]'
    camera: 'Camera | None'
    T_camera_lidar: 'np.ndarray | None'
    period_s: float
    lidar_clock_offset_s: float = 0.0


@with_out('Folder for overlay.png and report.json.')
@with_options(_READING)
def check(
    source: Annotated[Path, typer.Argument(help='Bag, or folder of a KITTI raw drive.')],
    out: Path = Path('check'),
    *,
    options: dict,
) -> None:
    """Check a recording: topics, rates, pairing, TF, distortion, extrinsics, clocks.

    OUT/overlay.png shows points over images, with depth edges marked. Extrinsics and clocks are
    judged by how well those edges line up with image edges. Exits with code 1 if there is a
    problem that no model can compensate for.
    """
    from dmd3c_ros.io.atomic import check_folder, write_json
    from dmd3c_ros.io.images import write_rgb

    from .console import fail, say

    report = _Report()
    try:
        check_folder(out)
        is_drive = (source / 'velodyne_points').is_dir()
        if is_drive and options:
            raise ValueError(f'{source}: the options are for bags only, not for KITTI drives')
        recording = _drive(source, report) if is_drive else _bag(source, options, report)
        if recording is not None:
            _judge(recording, report)
            write_rgb(out / 'overlay.png', overlay(recording.runs))
        report.numbers['findings'] = [{'mark': m, 'text': t} for m, t in report.lines]
        write_json(out / 'report.json', report.numbers)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    typer.echo(report.to_text())
    shown = '' if recording is None else 'overlay.png, '
    say(f'{out}/: {shown}report.json')
    if not report.is_fit:
        raise typer.Exit(1)


# -------------------------------------------------------------------- recordings


def _drive(path: Path, report: _Report) -> _Recording:
    from dmd3c_ros.bags.pairing import bars
    from dmd3c_ros.datasets.drives import RecordedDrive
    from dmd3c_ros.evaluation.alignment import View
    from dmd3c_ros.io.kitti_raw import KittiDrive

    files = KittiDrive(path)
    drive = RecordedDrive(path)
    count = len(drive)
    _add_rate(report, 'image_02', [drive.stamp_ns(index) for index in range(count)])
    if files.missing:
        report.add(
            _WARNING, f'{len(files.missing)} frames have a missing file: {files.missing[0]}, ...'
        )
    runs, gaps = [], []
    for start in _starts(count):
        run = []
        for index in range(start, min(start + _RUN, count)):
            frame = drive[index]
            gaps.append((frame.points_stamp_ns - frame.stamp_ns) * 1e-9)
            run.append(View(frame.rgb, frame.sparse()))
        runs.append(run)
    text = '\n'.join(bars('stamp of sweep minus stamp of image', gaps))
    report.add(_OK, f'every image has a sweep\n{text}')
    report.add(_OK, 'images are rectified (KITTI)')
    _add_extrinsics(report, drive.T_camera_lidar)
    return _Recording(runs, drive.camera, drive.T_camera_lidar, drive.period_ns * 1e-9)


def _bag(path: Path, options: dict, report: _Report) -> _Recording | None:
    from dmd3c_ros.bags.reader import Bag
    from dmd3c_ros.bags.records import BagError
    from dmd3c_ros.core.transform_buffer import TransformError

    from .bag import open_source

    with Bag(path) as bag:
        if bag.damage:
            report.add(_WARNING, f'the bag is damaged: {bag.damage}; checked what could be read')
        chosen = options | {'model': 'nearest', 'filter_hidden_points': 'never'}
        try:
            source = open_source(bag, chosen)
        except (BagError, TransformError) as error:
            report.add(_FAULT, str(error))
            return None
        inputs = [topic for topic in source.inputs if topic is not None]
        report.add(_OK, f'would complete {", ".join(topic.name for topic in inputs)}')
        runs, frames = _sampled(source)
        for topic, stamps in zip(source.report.names, source.report.stamps, strict=True):
            _add_rate(report, topic, stamps)
        _add_pairing(report, source)
        _add_delays(report, bag, inputs)
        if not frames:
            return None
        camera = frames[0].image.camera
        T_camera_lidar = _extrinsics(source, frames[0])
        _add_distortion(report, source, bool(options.get('rectify')))
        if T_camera_lidar is not None:
            _add_extrinsics(report, T_camera_lidar)
        _add_times(report, source)
        stamps = sorted(source.report.stamps[0])
        period_s = (stamps[-1] - stamps[0]) * 1e-9 / max(1, len(stamps) - 1)
        offset_s = source.motion.lidar_clock_offset
        return _Recording(runs, camera, T_camera_lidar, period_s, offset_s)


def _sampled(source: 'FrameSource') -> 'tuple[list[list[View]], list[Any]]':
    """Runs of frames, spread over the bag; only the stamps of the others are read."""
    from dmd3c_ros.evaluation.alignment import View

    count = min(topic.count for topic in source.inputs if topic is not None)
    chosen = [range(start, start + _RUN) for start in _starts(count)]
    runs: list[list[View]] = [[] for _ in chosen]
    frames = []
    for frame in source.frames(lambda number: any(number in run for run in chosen)):
        number = source.report.sets - 1
        frames.append(frame)
        for run, indices in zip(runs, chosen, strict=True):
            if number in indices:
                run.append(View(frame.image.rgb, frame.sparse))
    return [run for run in runs if run], frames


def _starts(count: int) -> list[int]:
    """First frames of the runs."""
    runs = min(_RUNS, max(1, count // _RUN))
    return [index * max(0, count - _RUN) // max(1, runs - 1) for index in range(runs)]


def _extrinsics(source: 'FrameSource', frame: Any) -> 'np.ndarray | None':
    from dmd3c_ros.bags.transforms import read_transforms
    from dmd3c_ros.core.transform_buffer import TransformError

    if source.T_camera_lidar is not None:
        return source.T_camera_lidar
    lidar = source.bag.first(source.inputs.points).header.frame_id
    camera = frame.image.info.header.frame_id
    try:
        return read_transforms(source.bag).lookup(camera, lidar, frame.stamp_ns)
    except TransformError:
        return None


# -------------------------------------------------------------------- findings


def _add_rate(report: _Report, name: str, stamps_ns: Sequence[int]) -> None:
    import numpy as np

    if len(stamps_ns) < 2:
        report.add(_FAULT, f'{name}: expected messages, got {len(stamps_ns)}')
        return
    gaps = np.diff(stamps_ns) * 1e-9
    period = float(np.median(gaps))
    lost, back = int((gaps > 1.5 * period).sum()), int((gaps <= 0).sum())
    text = f'{name}: {len(stamps_ns)} messages, {1 / max(period, 1e-9):.2f} Hz'
    report.numbers.setdefault('rates_hz', {})[name] = 1 / max(period, 1e-9)
    if back:
        report.add(_WARNING, f'{text}; stamps jump back or repeat {back} times')
    elif lost > 0.02 * len(gaps):
        report.add(_WARNING, f'{text}; {lost} gaps, the longest {gaps.max():.2f} s: messages lost')
    else:
        report.add(_OK, text)


def _add_pairing(report: _Report, source: 'FrameSource') -> None:
    pairing = source.report
    images = len(pairing.stamps[0])
    report.numbers['pairing'] = pairing.to_dict()
    details = pairing.to_text().partition('\n')[2]
    mark = _FAULT if not pairing.sets else _WARNING if pairing.sets < 0.9 * images else _OK
    if mark == _WARNING and pairing.sets >= 0.9 * len(pairing.stamps[-1]):
        # A camera faster than the LiDAR: every sweep has its image.
        mark = _OK
    report.add(mark, f'{pairing.sets} of {images} images find a sweep\n{details}')
    for reason, number in pairing.drops.most_common():
        report.add(_FAULT, f'{number} frames cannot be used: {reason}')


def _add_delays(report: _Report, bag: 'Bag', inputs: Sequence[Any]) -> None:
    """How long after their stamps messages were recorded, which reveals different clocks."""
    import numpy as np

    from dmd3c_ros.bags.records import BagError

    for topic in inputs:
        delays = []
        for record in bag.records([topic]):
            try:
                delays.append((record.time_ns - record.stamp_ns) * 1e-9)
            except BagError:
                continue
            if len(delays) == 200:
                break
        if not delays:
            continue
        middle = float(np.median(delays))
        if abs(middle) > 1:
            report.add(
                _WARNING,
                f'{topic.name} was recorded {middle:+.1f} s after its stamps: the driver uses '
                'a different clock, or the bag was re-recorded',
            )


def _add_distortion(report: _Report, source: 'FrameSource', rectifying: bool) -> None:
    info = source.bag.first(source.inputs.info) if source.inputs.info is not None else None
    if info is None:
        report.add(_OK, 'the camera calibration comes from a file')
    elif rectifying:
        report.add(_OK, f'images will be rectified ({info.distortion_model})')
    elif any(info.d) and 'rect' not in source.inputs.image.name:
        report.add(
            _WARNING,
            f'{source.inputs.image.name} has a camera with distortion ({info.distortion_model}) '
            'and its name is not that of a rectified image: if it is raw, add --rectify',
        )
    else:
        report.add(_OK, 'images are rectified, judging by topic name or calibration')


def _add_extrinsics(report: _Report, T_camera_lidar: 'np.ndarray') -> None:
    import numpy as np

    position = -T_camera_lidar[:3, :3].T @ T_camera_lidar[:3, 3]
    axis = T_camera_lidar[:3, :3].T[:, 2]
    text = (
        f'the camera is at ({_listed(position)}) m in the LiDAR frame and looks along '
        f'({_listed(axis)})'
    )
    report.numbers['T_camera_lidar'] = T_camera_lidar.tolist()
    if np.allclose(T_camera_lidar[:3, :3], np.eye(3), atol=0.05):
        report.add(
            _WARNING,
            f'{text}: both frames have the same axes; is the camera frame an optical frame (z '
            'forward), and is the LiDAR frame one too?',
        )
    elif np.linalg.norm(position) > 5:
        report.add(_WARNING, f'{text}: that is far away; are the units metres?')
    else:
        report.add(_OK, text)


def _listed(vector: 'np.ndarray') -> str:
    return ', '.join(f'{value:.2f}' for value in vector)


def _add_times(report: _Report, source: 'FrameSource') -> None:
    from dmd3c_ros.messages.point_times import FIELDS

    names = [item.name for item in source.bag.first(source.inputs.points).fields]
    times = [name for name in names if name in FIELDS]
    if times:
        report.add(_OK, f'points have per-point times ({times[0]}): --fixed-frame deskews them')
    else:
        report.add(_OK, f'points have no per-point times ({", ".join(names)})')


def _judge(recording: _Recording, report: _Report) -> None:
    """Extrinsics and clocks, by the edges."""
    from dmd3c_ros.evaluation.alignment import estimate_clock, estimate_shift

    views = [view for run in recording.runs for view in run]
    shift = estimate_shift(views[:: max(1, len(views) // 16)])
    clock = estimate_clock(recording.runs, shift)
    report.numbers['shift'] = vars(shift) | {'is_known': shift.is_known, 'is_off': shift.is_off}
    report.numbers['clock'] = vars(clock) | {'is_known': clock.is_known, 'is_off': clock.is_off}
    _add_clock(report, clock, recording.period_s, recording.lidar_clock_offset_s)
    _add_shift(report, shift, clock, recording)


def _add_clock(report: _Report, clock: 'ClockOffset', period_s: float, offset_s: float) -> None:
    late = clock.frames * period_s
    text = f'{abs(clock.frames):.1f} ± {clock.sigma:.1f} frames ({abs(late) * 1e3:.0f} ms)'
    if not clock.is_known:
        report.add(_WARNING, 'clocks: not enough motion to compare them; record while turning')
    elif clock.is_off:
        report.add(
            _FAULT,
            f'clocks: images best match sweeps taken {text} {"later" if late > 0 else "earlier"}'
            f'; synchronize the sensors, or try --lidar-clock-offset {offset_s - late:.2f}',
        )
    else:
        report.add(_OK, f'clocks: images best match their own sweeps, to within {text}')


def _add_shift(
    report: _Report, shift: 'Shift', clock: 'ClockOffset', recording: _Recording
) -> None:
    where = f'({shift.du:+.1f}, {shift.dv:+.1f}) ± {shift.sigma:.1f} px'
    by = f'from {shift.edges} depth edges'
    if not shift.is_known:
        report.add(
            _WARNING,
            f'extrinsics: inconclusive ({by}); record a scene with more depth edges, and check '
            'overlay.png',
        )
        return
    if not shift.is_off:
        report.add(_OK, f'extrinsics: points are off by {where}, {by}')
        return
    text = (
        f'extrinsics: points are off by {where} (right, down), {by}: check overlay.png. The '
        'same offset everywhere means the rotation, a larger one close by the translation'
    )
    if clock.is_off:
        text += '; fix the clocks first'
    elif recording.camera is not None and recording.T_camera_lidar is not None:
        from dmd3c_ros.core.transforms import quaternion_from_rotation

        T = shift.corrected(recording.T_camera_lidar, recording.camera)
        report.numbers['T_camera_lidar_corrected'] = T.tolist()
        numbers = [*T[:3, 3], *quaternion_from_rotation(T[:3, :3])]
        text += (
            '. If it is the rotation, T_camera_lidar should be about '
            f'[{", ".join(f"{number:.5f}" for number in numbers)}]'
        )
    report.add(_FAULT, text)


def overlay(runs: 'Sequence[Sequence[View]]') -> 'np.ndarray':
    """Points on images of the first, the middle and the last run, edges of depth marked in red."""
    import cv2
    import numpy as np

    from dmd3c_ros.evaluation.alignment import depth_edges
    from dmd3c_ros.evaluation.drawing import depth_scale, points_on_image

    views = [runs[index * (len(runs) - 1) // max(1, _SHOWN - 1)] for index in range(_SHOWN)]
    chosen: Iterator[View] = (run[len(run) // 2] for run in views)
    rows = []
    for view in {id(view): view for view in chosen}.values():
        points = np.ascontiguousarray(
            points_on_image(view.rgb, view.sparse, depth_scale(view.sparse))
        )
        edges = view.rgb.copy()
        radius = max(1, view.rgb.shape[1] // 500)
        for side in depth_edges(view.sparse):
            for u, v in np.rint(side).astype(int):
                cv2.circle(edges, (int(u), int(v)), radius, (255, 40, 40), -1)
        rows += [points, edges]
    return np.vstack(rows)
