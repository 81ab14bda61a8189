"""From a recording to frames with ground truth, and from those to numbers."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from dmd3c_ros.core.baselines import fill_nearest
from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.config import needs_filtering
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.evaluation.metrics import DepthMetrics, depth_metrics, mean_metrics
from dmd3c_ros.io.kitti_raw import KittiDrive, ring_indices
from dmd3c_ros.messages.cameras import camera_from_info
from dmd3c_ros.messages.clouds import cloud_to_points
from dmd3c_ros.messages.decoding import image_to_rgb
from dmd3c_ros.messages.images import depth_from_image

from .recorder import Recording

_NS_PER_MS = 1e6
_START_UP_NS = 1_000_000_000
MAX_SCORED_M = 80.0
"""Simulated depth beyond this is not scored: no LiDAR measures it."""


class Scene(NamedTuple):
    """One recorded frame; depths are (H, W) float32 m, 0 = unknown."""

    rgb: np.ndarray
    """(H, W, 3) uint8."""
    sparse: np.ndarray
    """The projected sweep as the model was given it."""
    visible: np.ndarray
    """The projected sweep without the points that a nearer surface hides."""
    depth: np.ndarray
    """What the node published."""
    truth: np.ndarray


Truth = Callable[[int, np.ndarray], np.ndarray]
"""From an image's stamp (ns) and sparse depth to the true depth (H, W) float32, m, 0 = none."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the arrival of the later input to the publication of depth and cloud.

    p50, p99: once running, a second after the first image. start_up: the longest before that,
    when every buffer is used for the first time.
    """

    p50: float
    p99: float
    start_up: float


@dataclass(frozen=True)
class Summary:
    """Result of a demonstration; errors are means over the frames."""

    frames_in: int
    frames_out: int
    dropped: int
    latency_ms: Latency
    rmse_mm: float
    mae_mm: float
    sparse_rmse_mm: float
    model: str
    device: str
    source: str
    ground_truth: str

    def as_dict(self) -> dict[str, object]:
        """As it is written into summary.json."""
        return asdict(self)

    def as_text(self) -> str:
        """The same in a few lines for a person."""
        return (
            f'{self.frames_out} of {self.frames_in} frames completed, {self.dropped} dropped\n'
            f'latency {self.latency_ms.p50:.0f} ms (median), {self.latency_ms.p99:.0f} ms (p99), '
            f'in the first second up to {self.latency_ms.start_up:.0f} ms\n'
            f'RMSE {self.rmse_mm:.0f} mm, MAE {self.mae_mm:.0f} mm; '
            f'nearest-neighbour filling: RMSE {self.sparse_rmse_mm:.0f} mm'
        )


class Frames:
    """The frames of a recording that have an output of `model`, as arrays."""

    def __init__(
        self, recording: Recording, T_camera_lidar: np.ndarray, truth: Truth, model: str = 'light'
    ) -> None:
        self._recording, self._T_camera_lidar, self._truth = recording, T_camera_lidar, truth
        self._filtered = needs_filtering(model)
        self._points_stamps = np.array(recording.stamps('points'), np.int64)
        infos = recording.stamps('camera_info')
        self.camera: Camera = camera_from_info(recording.message('camera_info', infos[0]))
        known = recording.times['image'].keys() & recording.times['depth'].keys()
        self.stamps = sorted(known)

    def __len__(self) -> int:
        return len(self.stamps)

    def __iter__(self) -> Iterator[Scene]:
        return (self[stamp] for stamp in self.stamps)

    def __getitem__(self, stamp: int) -> Scene:
        message = self._recording.message
        points = cloud_to_points(message('points', self.points_stamp(stamp)))
        sparse = project_points(points, self._T_camera_lidar, self.camera)
        visible = remove_hidden_points(sparse)
        return Scene(
            image_to_rgb(message('image', stamp)),
            visible if self._filtered else sparse,
            visible,
            depth_from_image(message('depth', stamp)),
            self._truth(stamp, sparse),
        )

    def confidence(self, stamp: int) -> np.ndarray:
        """Confidence (H, W) float32 in 0..1; all 0 where none came."""
        if stamp not in self._recording.bodies['confidence']:
            return np.zeros((self.camera.height, self.camera.width), np.float32)
        # A 32FC1 image as depth is, and 0 means nothing in both.
        return depth_from_image(self._recording.message('confidence', stamp))

    def points_stamp(self, stamp: int) -> int:
        """Stamp of the sweep nearest in time to an image."""
        return int(self._points_stamps[np.abs(self._points_stamps - stamp).argmin()])

    def latency(self) -> Latency:
        """Times by the clock of this machine, which all the processes share.

        An input has arrived when DDS hands it to the recorder's reader, which happens at the same
        moment as for the node's. An output is published when the node hands it to DDS.
        """
        times = self._recording.times
        arrivals = {
            stamp: max(times['image'][stamp].received, times['points'][sweep].received)
            for stamp, sweep in ((stamp, self.points_stamp(stamp)) for stamp in self.stamps)
            if stamp in times['cloud']
        }
        running = min(arrivals.values(), default=0) + _START_UP_NS
        early, late = [], []
        for stamp, arrival in arrivals.items():
            published = max(times['depth'][stamp].sent, times['cloud'][stamp].sent)
            (late if arrival >= running else early).append((published - arrival) / _NS_PER_MS)
        # A drive of a second is all start.
        p50, p99 = np.percentile(late or early or [np.nan], [50, 99])
        return Latency(*(round(float(v), 1) for v in (p50, p99, max(early, default=np.nan))))


def simulator_truth(recording: Recording) -> Truth:
    """The exact depth that the simulator publishes: up to MAX_SCORED_M, where the LiDAR looks.

    That is the box around its points in the image; above it a completion can only guess.
    """

    def truth(stamp: int, sparse: np.ndarray) -> np.ndarray:
        depth = depth_from_image(recording.message('truth', stamp))
        measured = sparse > 0
        rows, columns = np.flatnonzero(measured.any(axis=1)), np.flatnonzero(measured.any(axis=0))
        box = np.zeros_like(measured)
        if rows.size:
            box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        return np.where(box & (depth <= MAX_SCORED_M), depth, np.float32(0))

    return truth


def held_out_truth(drive: KittiDrive) -> Truth:
    """Points of the odd laser rings, which were held out from the node.

    They are scored if they hit a pixel that the even rings do not, and if the whole sweep shows
    no nearer surface in front.
    """
    indices = {drive.stamp_ns(index): index for index in range(len(drive))}

    def truth(stamp: int, sparse: np.ndarray) -> np.ndarray:
        points = drive[indices[stamp]].points
        odd = ring_indices(points) % 2 == 1
        whole, played, kept_back = (
            project_points(part, drive.T_camera_lidar, drive.camera)
            for part in (points, points[~odd], points[odd])
        )
        scored = (remove_hidden_points(whole) > 0) & (played == 0)
        return np.where(scored, remove_hidden_points(kept_back), np.float32(0))

    return truth


@dataclass(frozen=True)
class Score:
    """Errors of one frame; None without ground truth."""

    node: DepthMetrics | None
    baseline: DepthMetrics | None
    """Of nearest-neighbour filling."""

    @classmethod
    def of(cls, scene: Scene) -> 'Score':
        """Compare a frame with its ground truth."""
        return cls(
            depth_metrics(scene.depth, scene.truth, missing='near'),
            depth_metrics(fill_nearest(scene.visible), scene.truth, missing='near'),
        )

    @property
    def rmse_mm(self) -> float:
        """Of the node's depth; infinite without ground truth."""
        return np.inf if self.node is None else self.node.rmse_mm


def mean_scores(scores: list[Score]) -> tuple[DepthMetrics, DepthMetrics]:
    """Means over the frames of the node's errors and of the baseline's.

    Raises ValueError if no frame has ground truth.
    """
    node = mean_metrics(score.node for score in scores)
    baseline = mean_metrics(score.baseline for score in scores)
    if node is None or baseline is None:
        raise ValueError('no frame has ground truth to compare with')
    return node, baseline
