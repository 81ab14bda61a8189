"""Settings of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from dmd3c_ros.core import networks
from dmd3c_ros.core.networks import Convention
from training.data.samples import DataConfig
from training.losses.objectives import ObjectiveConfig

SCHEDULES = ('onecycle', 'steps', 'constant')
PRECISIONS = ('32-true', 'bf16-mixed')


@dataclass(frozen=True)
class ConventionConfig:
    """Deviations from a network's own input convention.

    mean, std, depth_scale, cut_above: as ``dmd3c_ros.core.networks.Convention`` has them; None
    leaves what the network, or the weights it begins from, say. BP-Net's weights for NYU Depth V2
    have ImageNet's mean and std and a depth_scale of 10.
    """

    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    depth_scale: float | None = None
    cut_above: float | None = None

    def applied(self, convention: Convention) -> Convention:
        """The convention with these changes."""
        return replace(convention, **{k: v for k, v in asdict(self).items() if v is not None})


@dataclass(frozen=True)
class TrainConfig:
    """One run; the defaults are the paper's settings of stage 1 (section 4.2 of DMD3C).

    out: folder of checkpoints, weights and the TensorBoard log.
    network: a name of ``dmd3c_ros.core.networks``; initial_weights: file to begin from, empty for
        random weights. convention: what the network expects of its input, where it differs; it is
        written into the weights.
    iterations, batch: length of the run; the batch is that of all processes together. stop_at: end
        early, at this iteration, with the learning rate that the whole run would have; 0: never.
    accumulate: number of parts in which a batch is processed, for GPUs too small for all of it.
    schedule: 'onecycle', which the paper names for stage 2 alone, 'steps' or 'constant'.
    learning_rate: its peak, or what stays constant. warm_up: fraction of the run in which it
        rises. The paper gives neither; 1e-3 and 0.1 are BP-Net's.
    div_factor, final_div_factor, momentum_min, momentum_max: of OneCycle, PyTorch's defaults;
        rate_noise: largest fraction by which the rate is off at random, iteration by iteration.
    milestones, step_factor: of 'steps': the rate is multiplied by it at these fractions of the
        run.
    decay_vectors: weight decay also of biases and of the parameters of normalization.
    clip_norm: largest norm of the gradient, 0: none. ema_decay: of the averaged weights, which are
        the result; 0: no average.
    precision: '32-true' or 'bf16-mixed'; the paper does not say. freeze_norm: keep the statistics
        of batch normalization as they are, as for small batches of fine-tuning. sync_norm: share
        them between GPUs. compile: train the network through torch.compile, which takes a minute
        and more at the start; weights and checkpoints are the same.
    max_depth: deeper ground truth does not count in validation, m.
    validate_every, checkpoint_every, log_every: iterations. validation_images: shown in
        TensorBoard of each validation.
    skip_unreadable: train on other samples in place of those that do not read, which the log
        names; validation never does.
    workers: loader processes of each training process. accelerator, devices, nodes: as Lightning's
        Trainer takes them; 0 devices are all. Under torchrun its processes count instead.
    """

    out: str
    data: DataConfig
    loss: ObjectiveConfig
    network: str = 'bpnet'
    initial_weights: str = ''
    convention: ConventionConfig = field(default_factory=ConventionConfig)
    seed: int = 0
    iterations: int = 600_000
    stop_at: int = 0
    batch: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    schedule: str = 'onecycle'
    warm_up: float = 0.1
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    momentum_min: float = 0.85
    momentum_max: float = 0.95
    rate_noise: float = 0.0
    milestones: tuple[float, ...] = ()
    step_factor: float = 0.5
    weight_decay: float = 0.05
    decay_vectors: bool = True
    clip_norm: float = 0.1
    ema_decay: float = 0.9999
    precision: str = 'bf16-mixed'
    freeze_norm: bool = False
    sync_norm: bool = True
    compile: bool = False
    max_depth: float = 100.0
    validate_every: int = 5000
    checkpoint_every: int = 1000
    log_every: int = 50
    validation_images: int = 4
    skip_unreadable: bool = False
    workers: int = 4
    accelerator: str = 'auto'
    devices: int = 0
    nodes: int = 1

    def __post_init__(self) -> None:
        for name, names in (
            ('network', self.network_names()),
            ('schedule', SCHEDULES),
            ('precision', PRECISIONS),
        ):
            if getattr(self, name) not in names:
                raise ValueError(f'{name}: expected one of {names}, got {getattr(self, name)!r}')
        counts = (
            'iterations',
            'batch',
            'accumulate',
            'validate_every',
            'checkpoint_every',
            'log_every',
            'nodes',
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f'{name}: expected at least 1, got {getattr(self, name)}')
        if not 0 <= self.stop_at <= self.iterations:
            raise ValueError(
                f'stop_at: expected 0 to {self.iterations} iterations, got {self.stop_at}'
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f'ema_decay: expected 0 to below 1, got {self.ema_decay}')
        if self.batch % self.accumulate:
            raise ValueError(
                f'accumulate: expected a divisor of the batch of {self.batch}, '
                f'got {self.accumulate}'
            )
        for name in ('div_factor', 'final_div_factor', 'step_factor'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name}: expected above 0, got {getattr(self, name)}')
        if not 0 <= self.momentum_min <= self.momentum_max < 1:
            raise ValueError(
                'momentum: expected 0 <= minimum <= maximum < 1, got '
                f'{self.momentum_min}, {self.momentum_max}'
            )
        for name in ('warm_up', 'rate_noise'):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f'{name}: expected 0 to below 1, got {getattr(self, name)}')
        if list(self.milestones) != sorted(m for m in self.milestones if 0 < m < 1):
            raise ValueError(
                f'milestones: expected rising fractions between 0 and 1, got {self.milestones}'
            )
        if not self.learning_rate > 0:
            raise ValueError(f'learning_rate: expected above 0, got {self.learning_rate}')

    @classmethod
    def network_names(cls) -> tuple[str, ...]:
        """Networks that can be trained so."""
        return networks.names()

    def content(self) -> dict:
        """What decides about the result: all but where, how fast and how talkative a run is."""
        content = asdict(self)
        for name in (
            'out',
            'stop_at',
            'workers',
            'accelerator',
            'devices',
            'nodes',
            'checkpoint_every',
            'log_every',
            'validation_images',
            'skip_unreadable',
        ):
            del content[name]
        return content
