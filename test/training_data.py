"""Small training data that tests make themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dmd3c_ros.core.camera import Camera
from training.generation.shards import ShardWriter, StoredSample, encode_sample
from training.scenes.frames import StoredFrame

# Settings of a run that takes seconds: a few iterations in this process, nothing drawn.
ON_CPU = {
    'precision': '32-true',
    'validation_images': 0,
    'workers': 0,
    'accelerator': 'cpu',
}


def made_sample(number: int, height: int = 64, width: int = 96) -> StoredSample:
    """A wall behind a floor and a box, coloured by what is what, with a sparse grid of points."""
    rng = np.random.default_rng(number)
    K = np.array([[80.0, 0, width / 2], [0, 80.0, height / 2], [0, 0, 1]])
    rows = np.arange(height)[:, None]
    floor = np.where(rows > K[1, 2], 80 * 1.6 / np.maximum(rows - K[1, 2], 0.1), np.inf)
    depth = np.minimum(floor, rng.uniform(8, 25)) * np.ones((1, width))
    top, left = rng.integers(5, height - 30), rng.integers(5, width - 40)
    box = np.s_[top : top + 24, left : left + 32]
    depth[box] = np.minimum(depth[box], rng.uniform(3, 6))
    shade = (255 * np.exp(-depth / 12)).astype(np.uint8)
    rgb = np.stack([shade, 255 - shade, np.full_like(shade, 40 * (number % 6))], -1)
    depth = depth.astype(np.float32)
    sparse = np.where(rng.random(depth.shape) < 0.06, depth, 0).astype(np.float32)
    return StoredSample(rgb, depth, sparse, K, {'source': f'made/{number}'})


def make_shards(folder: Path, count: int = 12) -> Path:
    """One finished shard of so many samples."""
    with ShardWriter(folder, 0) as writer:
        for number in range(count):
            writer.add(f'{number:09d}', encode_sample(made_sample(number)))
        writer.finish({})
    return folder


def made_frame(number: int, height: int = 352, width: int = 1216) -> StoredFrame:
    """A box on a plain below the sky, seen by 64 rings."""
    rng = np.random.default_rng(number)
    K = np.array([[700.0, 0, width / 2], [0, 700.0, 120], [0, 0, 1]])
    rows = np.arange(height)[:, None]
    depth = np.where(rows > 125, 1.65 * 700 / np.maximum(rows - 120, 1), 0) * np.ones((1, width))
    left = int(rng.integers(200, 900))
    depth[60:250, left : left + 150] = 9
    depth[depth > 120] = 0
    rgb = np.stack([(255 * np.exp(-depth / 20)).astype(np.uint8)] * 3, -1)
    camera = Camera.from_K(K, width, height)
    v, u = (grid.ravel() for grid in np.mgrid[100:height:4, 0:width:6])
    ring = ((v - 100) // 4).astype(np.uint8)
    known = depth[v, u] > 0
    z = depth[v, u][known]
    uv = np.stack([u[known], v[known], np.ones(known.sum())])
    points = (np.linalg.inv(camera.K) @ uv * z).T
    return StoredFrame(rgb, depth.astype(np.float32), points, ring[known], K, np.eye(4), 'hdl64e')


def save_teacher(folder: Path, **settings: object) -> Path:
    """A tiny Depth Anything V2 with random weights; settings: of its DepthAnythingConfig."""
    pytest.importorskip('transformers', reason='a teacher needs training/requirements.txt')
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        patch_size=14,
        image_size=56,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        **settings,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    return folder
