"""What pre-training and the SSI loss bring, on simulated data (as Table 3 of DMD3C on KITTI).

::

    python -m training.scenes --out runs/ablation_scenes --frames 480 --seed 2
    python -m training.ablation --config training/config/ablation.yaml

Every arm is fine-tuned on the same semi-dense labels for equally many iterations, from random
weights or from those of stage 1, and scored against exact depth of other scenes. A run that was
killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from dmd3c_ros.core import networks
from dmd3c_ros.core.weights.checkpoint import load_weights
from dmd3c_ros.datasets import Sample
from training.ablation.arms import Results, compare, run_folder, table
from training.ablation.data import (
    LABELLED,
    SHARDS,
    TEST,
    AblationDataConfig,
    read_test_frames,
    write_data,
)
from training.ablation.scores import dense_scores
from training.command_line import run_command
from training.data.augment import AugmentConfig
from training.data.samples import DataConfig, DatasetConfig, ShardsConfig, tensors
from training.engine.module import pad
from training.engine.run import train
from training.engine.settings import TrainConfig
from training.losses.objectives import DenseLossConfig, ObjectiveConfig

COLUMNS = ('rmse', 'mae', 'scanned_mae', 'above_mae', 'edge_mae', 'boundary_f1')
DIGITS = {**dict.fromkeys(COLUMNS, 0), 'boundary_f1': 3}


@dataclass(frozen=True)
class ArmConfig:
    """One row of the table."""

    loss: ObjectiveConfig
    """Of stage 2."""
    pretrained: bool = False
    """Begin from the weights of stage 1."""


@dataclass(frozen=True)
class AblationConfig:
    """The whole comparison.

    scenes: folder of ``python -m training.scenes``. out: folder of data, runs and results.
    seeds: each arm is trained once with each. arms: name to what it trains with.
    network, batch, learning_rate, precision, ema_decay, clip_norm: of every run, see TrainConfig.
    iterations: of fine-tuning; pretraining_iterations: of stage 1.
    crop_height, crop_width: of the training windows, pixels. held_out: unlabelled images that
    validate stage 1. workers: loader processes of a run.
    """

    scenes: str
    out: str
    arms: dict[str, ArmConfig]
    seeds: tuple[int, ...] = (1, 2, 3)
    data: AblationDataConfig = field(default_factory=AblationDataConfig)
    network: str = 'light'
    iterations: int = 1000
    pretraining_iterations: int = 1000
    batch: int = 4
    learning_rate: float = 1e-3
    precision: str = 'bf16-mixed'
    ema_decay: float = 0.99
    clip_norm: float = 1.0
    crop_height: int = 128
    crop_width: int = 256
    held_out: int = 12
    workers: int = 1

    def run(self, out: Path, seed: int, data: DataConfig, **changes: object) -> TrainConfig:
        """Settings of one run."""
        settings: dict[str, object] = {
            'iterations': self.iterations,
            'validate_every': self.iterations,
        }
        return TrainConfig(
            out=str(out),
            seed=seed,
            data=data,
            network=self.network,
            batch=self.batch,
            learning_rate=self.learning_rate,
            precision=self.precision,
            ema_decay=self.ema_decay,
            clip_norm=self.clip_norm,
            checkpoint_every=200,
            validation_images=0,
            workers=self.workers,
            **(settings | changes),
        )

    def pretraining(self, seed: int) -> TrainConfig:
        """Stage 1: dense L1 (Eq. 6) on the simulated sensor's view of unlabelled images."""
        root, augment = Path(self.out) / SHARDS, self._augment(drop_points=0.5)
        shards = ShardsConfig(str(root), held_out=self.held_out, augment=augment)
        return self.run(
            run_folder(Path(self.out), 'stage1', seed),
            seed,
            DataConfig(shards=shards),
            loss=ObjectiveConfig(dense=DenseLossConfig()),
            iterations=self.pretraining_iterations,
            validate_every=self.pretraining_iterations,
        )

    def finetuning(self, arm: str, seed: int) -> TrainConfig:
        """Stage 2."""
        out, choice = Path(self.out), self.arms[arm]
        dataset = DatasetConfig(
            'kitti-train',
            str(out / LABELLED),
            disparity=True,
            augment=self._augment(),
            validation_root=str(out / TEST),
        )
        weights = str(Path(self.pretraining(seed).out) / 'weights.pth')
        return self.run(
            run_folder(out, arm, seed),
            seed,
            DataConfig(dataset=dataset),
            loss=choice.loss,
            initial_weights=weights if choice.pretrained else '',
        )

    def _augment(self, **changes: float) -> AugmentConfig:
        return AugmentConfig(crop_height=self.crop_height, crop_width=self.crop_width, **changes)


def ablate(config: AblationConfig) -> Results:
    """Train and score every arm with every seed; writes results.json after each run."""
    out = Path(config.out)
    write_data(Path(config.scenes), out, config.data)

    def settings(arm: str, seed: int) -> dict:
        content = config.finetuning(arm, seed).content()
        if config.arms[arm].pretrained:
            content['pretraining'] = config.pretraining(seed).content()
        return content

    def scores(arm: str, seed: int) -> dict[str, float]:
        if config.arms[arm].pretrained:
            train(config.pretraining(seed))
        return score(config.network, train(config.finetuning(arm, seed)), out)

    return compare(out, tuple(config.arms), config.seeds, settings, scores, asdict(config))


@torch.inference_mode()
def score(network_name: str, weights: Path, out: Path) -> dict[str, float]:
    """Mean over the test frames of dense_scores."""
    network = networks.build(network_name).eval()
    load_weights(network, weights)
    convention = network.convention
    rows = []
    for name, frame in read_test_frames(out):
        sample = Sample(name=name, K=frame.K, rgb=frame.rgb, sparse=frame.sparse)
        batch = {key: value[None] for key, value in tensors(sample, convention).items()}
        batch = pad(batch, convention.size_multiple)
        height, width = frame.depth.shape
        output = network(batch['image'], batch['sparse'] * convention.depth_scale, batch['K'])
        depth = output.depth[0, 0, :height, :width] / convention.depth_scale
        rows.append(dense_scores(depth.clamp(min=0.1).numpy(), frame))
    return {name: float(np.nanmean([row[name] for row in rows])) for name in COLUMNS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    results = run_command('ablation', AblationConfig, ablate, arguments, __doc__)
    Console(width=120).print(table(results, DIGITS))
