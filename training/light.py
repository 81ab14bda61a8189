"""Train the light network on simulated scenes: ``python -m training.light --config FILE``.

Every sample is drawn from its number alone (frame, crop, sensor, colours), so a run that was
killed goes on as if nothing had happened, whatever the number of loader processes.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from dmd3c_ros.core import networks
from dmd3c_ros.io.atomic import atomic_write

from .sampling import SamplingConfig, draw_sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LightConfig:
    """One training run.

    scenes: folder of ``python -m training.scenes``. out: folder of checkpoints and the weights.
    iterations, batch: length of the run; learning_rate: peak of OneCycle (AdamW).
    stop_at: end the run early, at this iteration; 0 for the whole schedule.
    l1_weight, l2_weight: of absolute and squared error relative to the image's mean depth.
    far_weight: of pixels that lie far from every LiDAR point in the image.
    validation: frames held out of training; validate_every: iterations between two validations.
    """

    scenes: str
    out: str
    seed: int = 1
    iterations: int = 20_000
    stop_at: int = 0
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    l1_weight: float = 1.0
    l2_weight: float = 0.5
    confidence_weight: float = 0.05
    far_weight: float = 0.3
    max_depth: float = 100.0
    validation: int = 48
    validate_every: int = 1000
    workers: int = 1
    bfloat16: bool = True
    initial_weights: str = ''

    @classmethod
    def from_file(cls, path: str | Path) -> tuple[LightConfig, SamplingConfig]:
        """Read a YAML file; an unknown key is an error that names the known ones."""
        content = yaml.safe_load(Path(path).read_text())
        sampling = content.pop('sampling', {})
        return _from_dict(cls, content), _from_dict(SamplingConfig, sampling)


def _from_dict(cls: type, content: dict) -> object:
    known = {f.name for f in fields(cls)}
    unknown = sorted(content.keys() - known)
    if unknown:
        raise ValueError(f'unknown keys {unknown}; expected some of {sorted(known)}')
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in content.items()})


class SceneSamples(Dataset):
    """Training samples by number; see ``draw_sample`` for what one holds."""

    def __init__(self, files: list[Path], seed: int, sampling: SamplingConfig) -> None:
        self._files, self._seed, self._sampling = files, seed, sampling

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self._seed, number))
        file = self._files[rng.integers(len(self._files))]
        return draw_sample(file, rng, self._sampling)


def loss_of(output: networks.NetworkOutput, batch: dict[str, Tensor], c: LightConfig) -> Tensor:
    """Weighted absolute and squared error of every output scale, and calibration of confidence.

    Errors are relative to the mean depth of each image, so that rooms and streets weigh alike.
    """
    truth = batch['depth']
    valid = ((truth > 0) & (truth < c.max_depth)).float()
    scale = (truth * valid).sum((1, 2, 3), keepdim=True) / valid.sum(
        (1, 2, 3), keepdim=True
    ).clamp(min=1)
    # Within 8 to 16 pixels of a point; on a coarse grid, as a wide window costs too much.
    near = F.max_pool2d((batch['sweep'] > 0).float(), 8, ceil_mode=True)
    near = F.interpolate(F.max_pool2d(near, 3, 1, 1), scale_factor=8, mode='nearest')
    near = near[..., : truth.shape[-2], : truth.shape[-1]]
    weight = valid * (c.far_weight + (1 - c.far_weight) * near)
    total = truth.new_zeros(())
    count = len(output.pyramid)
    for level, depth in enumerate(output.pyramid):
        if depth.shape[-2:] != truth.shape[-2:]:
            depth = F.interpolate(depth, size=truth.shape[-2:], mode='nearest')
        error = (depth - truth).abs() / scale.clamp(min=0.1)
        # A few wild pixels must not own the gradient of the squared term.
        term = c.l1_weight * error + c.l2_weight * error.clamp(max=2) ** 2
        total = total + 0.5 ** (count - 1 - level) * (term * weight).sum() / weight.sum().clamp(
            min=1
        )
    # The sky has no depth: whatever is said there is wrong, and trust must be low.
    right = ((output.depth.detach() - truth).abs() < 0.05 * truth).float() * valid
    known = ((truth == 0) | (valid > 0)).float()
    trust = F.binary_cross_entropy(output.confidence.clamp(1e-4, 1 - 1e-4), right, weight=known)
    return total + c.confidence_weight * trust


@torch.no_grad()
def validate(network: nn.Module, samples: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean over images of RMSE and MAE (m) near LiDAR points, and of the whole image's MAE."""
    network.eval()
    rows = []
    for sample in samples:
        batch = {k: v[None] for k, v in sample.items()}
        depth = network(batch['image'], batch['sparse'], batch['K']).depth
        truth = batch['depth']
        held_out = (batch['sweep'] > 0) & (batch['sparse'] == 0) & (truth > 0) & (truth < 100)
        error = (depth - truth)[held_out]
        dense = (depth - truth)[(truth > 0) & (truth < 100)].abs().mean()
        rows.append([error.square().mean().sqrt().item(), error.abs().mean().item(), dense.item()])
    network.train()
    rmse, mae, dense = np.nanmean(rows, 0)
    return {'rmse': float(rmse), 'mae': float(mae), 'dense_mae': float(dense)}


class Trainer:
    """The loop of one run, with everything that a checkpoint restores."""

    def __init__(self, config: LightConfig, sampling: SamplingConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        files = sorted(Path(config.scenes).glob('*.npz'))
        if len(files) <= config.validation:
            raise FileNotFoundError(
                f'{config.scenes}: expected more than {config.validation} scene files, got '
                f'{len(files)}; make them with python -m training.scenes'
            )
        held_out, files = files[: config.validation], files[config.validation :]
        self.samples = SceneSamples(files, config.seed, sampling)
        self.held_out = [
            draw_sample(file, np.random.default_rng(i), sampling.for_validation())
            for i, file in enumerate(held_out)
        ]
        self.network = networks.build('light').to(memory_format=torch.channels_last)
        if config.initial_weights:
            from dmd3c_ros.core.checkpoint import load_weights

            load_weights(self.network, config.initial_weights)
        self.ema = AveragedModel(
            self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True
        )
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, config.learning_rate, config.iterations, pct_start=0.1
        )
        self.step = 0
        self.out = Path(config.out)
        if (self.out / 'last.pth').is_file():
            self._resume()

    def run(self) -> None:
        """Train to the end; ``last.pth`` holds everything, ``light.pth`` the averaged weights."""
        c = self.config
        end = c.stop_at or c.iterations
        numbers = range(self.step * c.batch, end * c.batch)
        loader = DataLoader(
            self.samples, c.batch, sampler=numbers, num_workers=c.workers, prefetch_factor=4
        )
        columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
        mean = 0.0
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task('light', total=end, completed=self.step)
            for batch in loader:
                mean += (self._iterate(batch) - mean) * 0.02
                progress.update(task, completed=self.step, description=f'loss {mean:.4f}')
                if self.step % c.validate_every == 0 or self.step == end:
                    scores = validate(self.ema.module, self.held_out)
                    shown = '  '.join(f'{k} {v:.3f}' for k, v in scores.items())
                    log.info('%d  loss %.4f  %s', self.step, mean, shown)
                    self._save()

    def _iterate(self, batch: dict[str, Tensor]) -> float:
        c = self.config
        with torch.autocast('cpu', torch.bfloat16, enabled=c.bfloat16):
            image = batch['image'].contiguous(memory_format=torch.channels_last)
            output = self.network(image, batch['sparse'], batch['K'])
        loss = loss_of(output, batch, c)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), c.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.ema.update_parameters(self.network)
        self.step += 1
        return loss.item()

    def _save(self) -> None:
        state = {
            'step': self.step,
            'network': self.network.state_dict(),
            'average': self.ema.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'scheduler': self.scheduler.state_dict(),
            'config': asdict(self.config),
        }
        for name, content in (
            ('last.pth', state),
            ('light.pth', {'net': self.ema.module.state_dict()}),
        ):
            with atomic_write(self.out / name) as file:
                torch.save(content, file)

    def _resume(self) -> None:
        state = torch.load(self.out / 'last.pth', weights_only=True)
        self.network.load_state_dict(state['network'])
        self.ema.load_state_dict(state['average'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scheduler.load_state_dict(state['scheduler'])
        self.step = state['step']
        log.info('resumed at iteration %d', self.step)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    Trainer(*LightConfig.from_file(arguments.config)).run()


if __name__ == '__main__':
    main()
