"""What each loss, normalization and teacher brings to a student, on scenes that it never saw.

::

    python -m training.scenes --out runs/mono_scenes --frames 600 --seed 7
    python -m training.scenes --out runs/mono_test_scenes --frames 60 --seed 9001
    python -m training.mono.ablation --config training/config/ablation_mono.yaml

Every arm trains the same student on the same images for equally many iterations, once with each
seed, and is scored against exact depth. A run that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from dmd3c_ros.core.alignment import align_to_truth
from dmd3c_ros.core.relative import RelativeDepth
from dmd3c_ros.evaluation.metrics import depth_metrics
from training.ablation.arms import Results, compare, run_folder, table
from training.ablation.data import MAX_DEPTH
from training.ablation.scores import boundary_f1
from training.command_line import run_command
from training.engine.run import train

from .crops import Frames
from .module import Distillation
from .settings import DistillConfig, MonoConfig, MonoTeacherConfig

DIGITS = {'absrel': 4, 'delta1': 4, 'boundary_f1': 4}


@dataclass(frozen=True)
class MonoArmConfig:
    """One row of the table: what it trains with. Without teachers, those of every run."""

    loss: DistillConfig
    teachers: tuple[MonoTeacherConfig, ...] = ()


@dataclass(frozen=True)
class MonoAblationConfig:
    """The whole comparison.

    run: what all arms share; its ``out`` is the folder of runs and results. arms: name to what it
    trains with. seeds: each arm is trained once with each. test: folder of ``python -m
    training.scenes`` that no run trains on. size: of the image's shorter side when scored, pixels.
    references: name to a file of weights that is scored beside the arms, such as a teacher's.
    """

    run: MonoConfig
    arms: dict[str, MonoArmConfig]
    test: str
    seeds: tuple[int, ...] = (1, 2, 3)
    size: int = 128
    references: dict[str, str] = field(default_factory=dict)

    def of(self, arm: str, seed: int) -> MonoConfig:
        """Settings of one run."""
        choice = self.arms[arm]
        return replace(
            self.run,
            out=str(run_folder(Path(self.run.out), arm, seed)),
            seed=seed,
            loss=choice.loss,
            teachers=choice.teachers or self.run.teachers,
        )


def ablate(config: MonoAblationConfig) -> Results:
    """Train and score every arm with every seed; writes results.json after each run."""

    def scores(arm: str, seed: int) -> dict[str, float]:
        weights = train(config.of(arm, seed), kind=Distillation)
        return score(weights, config.test, config.size)

    def settings(arm: str, seed: int) -> dict:
        return config.of(arm, seed).content() | {'test': config.test, 'size': config.size}

    references = {
        name: {column: [value] for column, value in score(file, config.test, config.size).items()}
        for name, file in config.references.items()
    }
    out, arms = Path(config.run.out), tuple(config.arms)
    return references | compare(out, arms, config.seeds, settings, scores, asdict(config))


def score(weights: str | Path, scenes: str | Path, size: int) -> dict[str, float]:
    """Mean over simulated frames, up to 80 m, of a monocular network.

    absrel, delta1: of depth after the scale and shift of least squares in inverse depth.
    boundary_f1: of its contours, see there.
    """
    network = RelativeDepth(weights, size)
    frames, rows = Frames(scenes), []
    for index in range(len(frames)):
        frame = frames.read(index)
        truth = np.where(frame.depth < MAX_DEPTH, frame.depth, 0)
        depth = align_to_truth(network.predict(frame.rgb), truth, max_depth=MAX_DEPTH)
        metrics = depth_metrics(depth, truth, missing='ignore')
        if metrics is not None:
            rows.append((metrics.rel, metrics.delta_1_25, boundary_f1(depth, truth)))
    return dict(zip(DIGITS, np.nanmean(rows, axis=0).tolist(), strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    results = run_command('mono.ablation', MonoAblationConfig, ablate, arguments, __doc__)
    Console(width=120).print(table(results, DIGITS))


if __name__ == '__main__':
    main()
