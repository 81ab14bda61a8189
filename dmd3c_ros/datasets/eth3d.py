"""ETH3D's multi-view training scenes (Schöps et al., CVPR 2017), in high resolution::

SCENE/images/dslr_images/NAME.JPG
SCENE/ground_truth_depth/dslr_images/NAME.JPG    float32, row by row, m, infinite = unknown
SCENE/dslr_calibration_jpg/cameras.txt           of COLMAP

The depth files bear the image's name, although they are no JPEGs. Images are as the camera took
them, some 24 megapixels and a little distorted; the intrinsics leave the distortion out.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.io.images import read_rgb

from .files import files_by_name, random_points, require_same
from .sample import DepthDataset, Sample


class Eth3d(DepthDataset):
    """Frames of all scenes, made smaller, with random points as input.

    root: folder of scenes.
    width: of the samples, pixels; larger images are reduced to it. 0: as they are.
    points: number of points given as input.
    seed: of the draws.
    Raises FileNotFoundError: no scene, or depth without its image.
    """

    def __init__(
        self, root: str | Path, *, width: int = 1024, points: int = 500, seed: int = 0
    ) -> None:
        root = Path(root)
        self._frames: list[tuple[str, Path, Path]] = []
        folders = sorted(root.glob('*/ground_truth_depth/dslr_images'))
        if not folders:
            raise FileNotFoundError(
                f'ETH3D: expected SCENE/ground_truth_depth/dslr_images in {root}'
            )
        for folder in folders:
            scene = folder.parents[1]
            what, images = f'ETH3D {scene.name}', scene / 'images/dslr_images'
            depths = files_by_name(folder, '*.JPG', what)
            found = files_by_name(images, '*.JPG', what)
            require_same(depths, found, images, what)
            self._frames += [(f'{scene.name}_{n}', found[n], depths[n]) for n in depths]
        self._width, self._points, self._seed = width, points, seed

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Sample:
        name, image, depth = self._frames[index]
        rgb = read_rgb(image)
        height, width = rgb.shape[:2]
        truth = np.fromfile(depth, '<f4')
        if truth.size != height * width:
            raise ValueError(
                f'{depth}: expected {height * width} numbers as the image of {width}x{height}, '
                f'got {truth.size}'
            )
        truth = truth.reshape(height, width)
        truth = np.where(np.isfinite(truth) & (truth > 0), truth, 0).astype(np.float32)
        camera = Camera.from_K(_intrinsics(image.parents[2], width, height), width, height)
        if self._width and width > self._width:
            size = self._width, round(height * self._width / width)
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
            # Depth is not averaged: between two surfaces there is none.
            truth = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST_EXACT)
            camera = camera.scaled(*size)
        rng = np.random.default_rng((self._seed, index))
        sparse = random_points(truth, self._points, rng)
        return Sample(name=name, K=camera.K, rgb=rgb, sparse=sparse, truth=truth)


def _intrinsics(scene: Path, width: int, height: int) -> np.ndarray:
    """K of the scene's camera of this size; raises FileNotFoundError or ValueError."""
    path = scene / 'dslr_calibration_jpg/cameras.txt'
    for line in path.read_text().splitlines():
        parts = line.split()
        # CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy ...
        if line.startswith('#') or len(parts) < 8:
            continue
        if parts[2:4] == [str(width), str(height)]:
            fx, fy, cx, cy = map(float, parts[4:8])
            # COLMAP counts from the corner of the first pixel, not from its centre.
            return np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    raise ValueError(f'{path}: expected a camera of {width}x{height}, got none')
