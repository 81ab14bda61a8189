"""Trajectories scored with evo (Grupp, "evo: Python package for the evaluation of odometry and
SLAM", 2017), written for it, and drawn.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmd3c_ros.io.atomic import write_bytes

# Okabe and Ito's colours, which colour-blind readers can distinguish.
_COLORS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00')

_EXACT = 1e-4  # m, errors below that are not worth a decade of the plot


@dataclass(frozen=True)
class TrajectoryError:
    """How far a trajectory is from the reference, both starting from one pose.

    ate_m: absolute trajectory error, RMSE over all positions. end_percent: distance of the last
    positions, relative to the length. rpe_m, rpe_deg: relative pose error from frame to frame,
    RMSE.
    """

    ate_m: float
    end_percent: float
    rpe_m: float
    rpe_deg: float


def trajectory(stamps_ns: Sequence[int], poses: Sequence[np.ndarray]) -> Any:
    """evo's PoseTrajectory3D; raises ImportError with a hint without evo."""
    try:
        from evo.core.trajectory import PoseTrajectory3D
    except ImportError as error:
        raise ImportError(f"scoring needs evo: pip install 'dmd3c_ros[slam]' ({error})") from error
    stamps = np.array(stamps_ns, np.int64) * 1e-9
    return PoseTrajectory3D(poses_se3=[np.array(pose) for pose in poses], timestamps=stamps)


def score(reference: Any, estimate: Any) -> TrajectoryError:
    """Errors of evo's trajectories with the same stamps."""
    from evo.core import metrics

    def rmse(metric: Any) -> float:
        metric.process_data((reference, estimate))
        return float(metric.get_statistic(metrics.StatisticsType.rmse))

    relation = metrics.PoseRelation
    ends = reference.positions_xyz[-1] - estimate.positions_xyz[-1]
    return TrajectoryError(
        rmse(metrics.APE(relation.translation_part)),
        float(100 * np.linalg.norm(ends) / reference.path_length),
        rmse(metrics.RPE(relation.translation_part, 1, metrics.Unit.frames)),
        rmse(metrics.RPE(relation.rotation_angle_deg, 1, metrics.Unit.frames)),
    )


def write_tum(path: Path, poses: Any) -> None:
    """Write evo's trajectory as `seconds tx ty tz qx qy qz qw` lines, which evo_ape reads."""
    from evo.tools.file_interface import write_tum_trajectory_file

    text = io.StringIO()
    write_tum_trajectory_file(text, poses)
    write_bytes(path, text.getvalue().encode('ascii'))


def draw(path: Path, title: str, reference: Any, estimates: dict[str, Any]) -> None:
    """Draw the trajectory from above, and the distance from the reference over time (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    above, error = figure.subplots(1, 2)
    start, typical = reference.timestamps[0], []
    for color, (name, estimate) in zip(_COLORS, estimates.items(), strict=False):
        x, _, z = estimate.positions_xyz.T
        above.plot(z, -x, color=color, label=name)
        gaps = np.linalg.norm(estimate.positions_xyz - reference.positions_xyz, axis=1)
        error.plot(estimate.timestamps - start, gaps, color=color, label=name)
        typical.append(max(np.median(gaps), _EXACT))
    x, _, z = reference.positions_xyz.T
    above.plot(z, -x, color='black', linestyle='--', label='reference')
    above.set(xlabel='forward (m)', ylabel='left (m)', title='from above')
    error.set(xlabel='time (s)', ylabel='distance from the reference (m)', title='error')
    # A trajectory that diverges leaves the plot instead of shrinking the others.
    half = max(0.15 * np.ptp(z), 1.5 * np.ptp(x))
    above.set(xlim=(-0.2 * np.ptp(z), 1.2 * np.ptp(z)), ylim=(-half, half))
    # The decade of the best: metres on streets, millimetres in rooms.
    lowest = 10 ** np.floor(np.log10(min(typical, default=1)))
    error.set(yscale='log', ylim=(lowest, None))
    for axes in (above, error):
        axes.grid(alpha=0.3)
    above.legend()
    figure.suptitle(title)
    data = io.BytesIO()
    figure.savefig(data, format='png', dpi=110)
    write_bytes(path, data.getvalue())
