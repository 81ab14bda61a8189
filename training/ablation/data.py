"""Data sets of the ablation, from the frames of ``python -m training.scenes``.

Three parts, no scene in two of them: unlabelled images for stage 1; a training set in KITTI's
layout with semi-dense labels and monocular depth beside its images; test frames with exact
dense depth. Images have half the size of the frames; every second laser stays and every second
point of it, so that the share of pixels with a measurement is that of KITTI.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.core.projection import project_points, remove_hidden_points
from dmd3c_ros.datasets.miniature import kitti_calibration, row
from dmd3c_ros.io.atomic import write_bytes
from dmd3c_ros.io.depth_png import write_depth_png
from dmd3c_ros.io.images import encode, write_rgb
from training.generation.maker import SAMPLES_VERSION
from training.generation.shards import ShardWriter, StoredSample, encode_sample
from training.generation.simulate import SimulationConfig, draw_view, scan_view, sparse_depth
from training.generation.sources import Prediction, SourceImage
from training.scenes.frames import FRAMES_PER_SCENE, StoredFrame, frame_path, load_frame

log = logging.getLogger(__name__)

SHARDS, LABELLED, TEST = 'stage1', 'kitti', 'test'
MAX_DEPTH = 80.0
_SIZE = (352, 1216)


@dataclass(frozen=True)
class AblationDataConfig:
    """How much there is, and how good the labels and the teacher are.

    labelled, test: scenes of a street seen by a KITTI-like rig; all others are unlabelled.
    label_share: of the pixels below the highest laser point that have a label.
    label_gap: no label so near to an edge of depth, pixels: accumulated sweeps disagree there.
    teacher_blur: spread of the teacher's blur, pixels. teacher_bend: spread of its slow error, as
        a share of inverse depth.
    """

    labelled: int = 40
    test: int = 10
    label_share: float = 0.3
    label_gap: int = 2
    teacher_blur: float = 1.0
    teacher_bend: float = 0.1


class Frame(NamedTuple):
    """rgb (H, W, 3) uint8; depth (H, W) float32 m, exact, 0 = sky; sparse (H, W) float32 m, as
    measured; K (3, 3)."""

    rgb: np.ndarray
    depth: np.ndarray
    sparse: np.ndarray
    K: np.ndarray


def write_data(scenes: Path, out: Path, config: AblationDataConfig, seed: int = 0) -> None:
    """Write the three parts below ``out``; what is there already is kept.

    Raises:
        FileNotFoundError: the frames are not there.
        ValueError: too few scenes, or ``out`` holds data of other settings.
    """
    content = {**asdict(config), 'seed': seed, 'samples_version': SAMPLES_VERSION}
    done, settings = out / 'done', json.dumps(content).encode()
    if done.is_file():
        if done.read_bytes() != settings:
            raise ValueError(
                f'{out}: expected data of the settings {settings.decode()}, got those of '
                f'{done.read_text() or "an earlier version"}; use another folder'
            )
        return
    test, labelled, unlabelled = _split(scenes, config)
    for number, path in enumerate(track(test, 'test')):
        _write_test(out / TEST, number, halved(load_frame(path)), config, seed)
    for number, path in enumerate(track(labelled, 'labelled')):
        _write_labelled(out / LABELLED, number, halved(load_frame(path)), config, seed)
    with ShardWriter(out / SHARDS, 0) as writer:
        for number, path in enumerate(track(unlabelled, 'unlabelled')):
            if f'{number:09d}' not in writer.keys:
                sample = _pretraining_sample(load_frame(path), number, config, seed)
                writer.add(f'{number:09d}', encode_sample(sample))
        writer.finish({})
    write_bytes(done, settings)
    log.info('%d test, %d labelled, %d unlabelled', len(test), len(labelled), len(unlabelled))


def _split(scenes: Path, config: AblationDataConfig) -> tuple[list[Path], list[Path], list[Path]]:
    """Files of the test, the labelled and the unlabelled frames."""
    count = len(list(scenes.glob('*.npz')))
    if not count:
        raise FileNotFoundError(
            f'{scenes}: expected frames (*.npz); make them with python -m training.scenes'
        )
    groups = [
        [frame_path(scenes, index) for index in range(first, min(first + FRAMES_PER_SCENE, count))]
        for first in range(0, count, FRAMES_PER_SCENE)
    ]
    streets = [number for number, group in enumerate(groups) if _is_kitti(group[0])]
    wanted = config.test + config.labelled
    if len(streets) < wanted or len(groups) <= wanted:
        raise ValueError(
            f'{scenes}: expected more than {wanted} scenes, {wanted} of them with a KITTI-like '
            f'rig; got {len(groups)} and {len(streets)}'
        )
    test, labelled = streets[: config.test], streets[config.test : wanted]
    rest = [number for number in range(len(groups)) if number not in {*test, *labelled}]
    return tuple([file for n in part for file in groups[n]] for part in (test, labelled, rest))


def _is_kitti(path: Path) -> bool:
    frame = load_frame(path)
    return frame.pattern == 'hdl64e' and frame.depth.shape == _SIZE


def halved(frame: StoredFrame) -> Frame:
    """Half the size, half the lasers, and half of what each measures."""
    depth = frame.depth[::2, ::2]
    K = frame.K.copy()
    # Pixel (u, v) of the small image lies on (2 u, 2 v) of the large one.
    K[:2] /= 2
    camera = Camera.from_K(K, depth.shape[1], depth.shape[0])
    points = frame.points[frame.ring % 2 == 0][::2]
    sparse = project_points(points, frame.T_camera_lidar, camera)
    return Frame(cv2.pyrDown(frame.rgb), np.ascontiguousarray(depth), sparse, K)


def teach(depth: np.ndarray, config: AblationDataConfig, rng: np.random.Generator) -> np.ndarray:
    """Relative inverse depth (H, W) float32, 0 (infinity) to 1, as a monocular network might say.

    Right up to scale but for a slow error over the image, and a little blurred.
    """
    height, width = depth.shape
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 0.1), 0)
    bend = cv2.resize(rng.normal(0, config.teacher_bend, (3, 6)), (width, height))
    told = cv2.GaussianBlur(inverse * np.exp(bend), (0, 0), config.teacher_blur)
    return (told / told.max()).astype(np.float32)


def semi_dense(frame: Frame, config: AblationDataConfig, rng: np.random.Generator) -> np.ndarray:
    """Labels (H, W) float32 m, 0 = none, with the holes of KITTI's: nothing above the highest
    laser point, far away, or beside edges of depth, and only a share of the rest."""
    known = (frame.depth > 0) & (frame.depth < MAX_DEPTH)
    known &= scanned(frame) & (rng.random(known.shape) < config.label_share)
    known &= ~near_edges(frame.depth, config.label_gap)
    return np.where(known, frame.depth, np.float32(0))


def scanned(frame: Frame) -> np.ndarray:
    """(H, W) bool: pixels on or below the row of the highest laser point."""
    rows = np.flatnonzero(remove_hidden_points(frame.sparse).any(axis=1))
    highest = int(rows[0]) if rows.size else len(frame.sparse)
    below = np.arange(len(frame.sparse))[:, None] >= highest
    return np.broadcast_to(below, frame.sparse.shape)


def near_edges(depth: np.ndarray, pixels: int, step: float = 0.1) -> np.ndarray:
    """(H, W) bool: pixels within a square of so many pixels of a jump of depth by this share."""
    # The sky is at infinity, and its border an edge.
    inverse = np.where(depth > 0, 1 / np.maximum(depth, 0.1), 0).astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(inverse, kernel), cv2.dilate(inverse, kernel)
    edges = (high > (1 + step) * low).astype(np.uint8)
    # On a slope depth changes too: an edge has inverse depth that is not straight.
    bent = np.abs(high + low - 2 * inverse) > 0.5 * step * high
    return cv2.dilate(edges & bent, np.ones((2 * pixels + 1,) * 2, np.uint8)) > 0


def _pretraining_sample(
    frame: StoredFrame, number: int, config: AblationDataConfig, seed: int
) -> StoredSample:
    """Stage 1 (section 3.2 of DMD3C): random camera and scale, then a simulated sensor."""
    rng = np.random.default_rng([seed, 1, number])
    rgb, depth = cv2.pyrDown(frame.rgb), frame.depth[::2, ::2]
    prediction = Prediction(teach(depth, config, rng), False)
    simulation = SimulationConfig(height=_SIZE[0] // 2, width=_SIZE[1] // 2)
    view = draw_view(SourceImage(str(number), rgb), prediction, simulation, rng)
    sparse = sparse_depth(scan_view(view, simulation, rng), view.camera)
    return StoredSample(view.rgb, view.depth, sparse, view.camera.K, {'source': number})


def _write_labelled(
    root: Path, number: int, frame: Frame, config: AblationDataConfig, seed: int
) -> None:
    """One frame of KITTI's training set, of a day of its own as its camera is."""
    rng = np.random.default_rng([seed, 2, number])
    date = f'simulated_{number:04d}'
    drive, name = f'{date}_drive_0001_sync', '0000000000.png'
    maps = {
        ('data_depth_velodyne', 'velodyne_raw'): frame.sparse,
        ('data_depth_annotated', 'groundtruth'): semi_dense(frame, config, rng),
    }
    for (archive, kind), depth in maps.items():
        folder = root / archive / 'train' / drive / 'proj_depth' / kind / 'image_02'
        write_depth_png(folder / name, depth)
    folder = root / 'raw' / date / drive / 'image_02'
    write_rgb(folder / 'data' / name, frame.rgb)
    told = teach(frame.depth, config, rng)
    # Neither scale nor shift of what the teacher says means anything.
    told = rng.uniform(0.5, 1) * (told + rng.uniform(0, 0.2)) / 1.2
    encode(folder / 'disp' / name, np.rint(65535 * told).astype(np.uint16))
    height, width = frame.depth.shape
    calibration = kitti_calibration(Camera.from_K(frame.K, width, height))
    write_bytes(root / 'raw' / date / 'calib_cam_to_cam.txt', calibration.encode())


def _write_test(
    root: Path, number: int, frame: Frame, config: AblationDataConfig, seed: int
) -> None:
    """One frame as in KITTI's selection, and its exact depth beside it."""
    rng = np.random.default_rng([seed, 3, number])
    selection = root / 'val_selection_cropped'
    maps = {
        'velodyne_raw': frame.sparse,
        'groundtruth_depth': semi_dense(frame, config, rng),
        'exact': frame.depth,
    }
    stem = f'simulated_{number:04d}_{{}}_0000000000_image_02'
    for kind, depth in maps.items():
        write_depth_png(selection / kind / f'{stem.format(kind)}.png', depth)
    write_rgb(selection / 'image' / f'{stem.format("image")}.png', frame.rgb)
    path = selection / 'intrinsics' / f'{stem.format("image")}.txt'
    write_bytes(path, f'{row(frame.K)}\n'.encode())


def read_test_frames(out: Path) -> Iterator[tuple[str, Frame]]:
    """Name and content of the test frames that write_data wrote."""
    from dmd3c_ros.datasets import open_dataset
    from dmd3c_ros.io.depth_png import read_depth_png

    folder = out / TEST / 'val_selection_cropped' / 'exact'
    for sample in open_dataset('kitti-selection', out / TEST):
        exact = read_depth_png(folder / f'{sample.name.replace("_image_0000", "_exact_0000")}.png')
        yield sample.name, Frame(sample.rgb, exact, sample.sparse, sample.K)
