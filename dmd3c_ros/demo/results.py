"""Files that a demonstration leaves behind."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py.point_cloud2 import read_points

from dmd3c_ros.io.atomic import write_json
from dmd3c_ros.io.depth_png import write_depth_png
from dmd3c_ros.io.ply import write_ply

from .config import DemoConfig, DemoError
from .recorder import Recording
from .report_images import Animation, write_report
from .scoring import Frames, Score, Summary, mean_scores
from .sources import Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Completion:
    """What completed the drive, by name."""

    model: str
    device: str


def write_results(
    config: DemoConfig,
    source: Source,
    recording: Recording,
    completion: Completion,
    progress: Progress,
) -> Summary:
    """Score the recording and write depth/, cloud.ply, drive.webp, report.png and summary.json."""
    frames = Frames(recording, source.T_camera_lidar, source.truth(recording), completion.model)
    if not frames.stamps:
        raise DemoError(f'no frame was completed; see {config.out / "logs"}')
    depth_folder = config.out / 'depth'
    for leftover in depth_folder.glob('[0-9]' * 6 + '.png'):
        # Depth of an earlier, longer run would pass for this one's.
        leftover.unlink()
    animation, scores = Animation(), {}
    task = progress.add_task('writing the results', total=len(frames) + 2)
    for index, stamp in enumerate(frames.stamps):
        scene = frames[stamp]
        scores[stamp] = Score.of(scene)
        write_depth_png(depth_folder / f'{index:06d}.png', scene.depth)
        animation.add(scene)
        progress.advance(task)
    animation.write(config.out / 'drive.webp', config.rate_hz)
    progress.advance(task)
    summary = _summary(source, recording, completion, frames, list(scores.values()))
    _write_cloud(config.out / 'cloud.ply', recording)
    stamp = _typical(scores, recording)
    write_report(
        config.out / 'report.png',
        frames[stamp],
        frames.confidence(stamp),
        frames.camera,
        summary,
    )
    write_json(config.out / 'summary.json', summary.as_dict())
    progress.advance(task)
    return summary


def _summary(
    source: Source,
    recording: Recording,
    completion: Completion,
    frames: Frames,
    scores: list[Score],
) -> Summary:
    errors, baseline = mean_scores(scores)
    frames_in = len(recording.times['image'].keys() | recording.times['depth'].keys())
    return Summary(
        frames_in=frames_in,
        frames_out=len(recording.times['depth']),
        dropped=frames_in - len(recording.times['depth']),
        latency_ms=frames.latency(),
        rmse_mm=round(errors.rmse_mm, 1),
        mae_mm=round(errors.mae_mm, 1),
        sparse_rmse_mm=round(baseline.rmse_mm, 1),
        model=completion.model,
        device=completion.device,
        source=source.title,
        ground_truth=source.ground_truth,
    )


def _typical(scores: dict[int, Score], recording: Recording) -> int:
    """The frame with the median error among those with confidence."""
    whole = [stamp for stamp in scores if stamp in recording.bodies['confidence']]
    ranked = sorted(whole or scores, key=lambda stamp: scores[stamp].rmse_mm)
    return ranked[len(ranked) // 2]


def _write_cloud(path: Path, recording: Recording) -> None:
    """The last cloud as it was published."""
    stamps = recording.bodies['cloud'].keys()
    if not stamps:
        _log.warning('no cloud was published, %s is not written', path)
        return
    cloud: PointCloud2 = recording.message('cloud', max(stamps))
    points = read_points(cloud, ('x', 'y', 'z', 'rgb'), skip_nans=True).ravel()
    xyz = np.stack([points[axis] for axis in 'xyz'], axis=1)
    # The colour's bytes travel as a float: blue, green, red, nothing.
    packed = np.ascontiguousarray(points['rgb']).view(np.uint8).reshape(-1, 4)
    write_ply(path, xyz, packed[:, 2::-1])
