"""Settings of monocular distillation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from dmd3c_ros.core.networks import mono
from training.engine.settings import TrainConfig
from training.generation.sources import SourceConfig
from training.generation.teacher import Teacher, TeacherConfig, open_teacher

from .crops import CropConfig
from .losses import COMPARED, FEATURES
from .normalization import NormalizationConfig

EXACT = 'exact'


@dataclass(frozen=True)
class MonoTeacherConfig:
    """Who teaches, and how often.

    model: 'exact', the simulation's own depth; a file of a monocular network (of this project or
        of the authors of Depth Anything V2); a folder, or a name on the hub, of the transformers
        library. Names on the hub, and models that are not of the Depth Anything kind, only teach
        through labels on disk.
    size: pixels of the shorter side as the teacher sees an image or a patch.
    probability: weight with which a sample is this teacher's; they need not sum to 1.
    """

    model: str = EXACT
    size: int = 518
    probability: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 14 or not self.probability > 0:
            raise ValueError(
                'teacher: expected size of 14 pixels or more and probability above 0, got '
                f'{self.size}, {self.probability}'
            )

    def open(self) -> Teacher:
        """The teacher, for labels on disk."""
        return open_teacher(TeacherConfig(model=self.model, size=self.size))


@dataclass(frozen=True)
class PointNetConfig:
    """What geometric distillation looks at position maps with; the paper does not say.

    weights: a file of a trained one, empty for random numbers drawn from seed. learns: whether it
    learns together with the student, which lets both agree on features that say little; its
    random features are a fixed measure otherwise. points: at most so many pixels, on a grid.
    offset: depth is 1 / (d + offset) of relative inverse depth d in 0..1. compared: 'whole' (the
    feature of the cloud), 'points' or 'both'.
    """

    weights: str = ''
    seed: int = 0
    learns: bool = False
    transforms: bool = True
    point_width: int = 64
    whole_width: int = 1024
    points: int = 4096
    offset: float = 0.2
    compared: str = 'whole'

    def __post_init__(self) -> None:
        if self.compared not in COMPARED:
            raise ValueError(f'compared: expected one of {COMPARED}, got {self.compared!r}')
        if self.points < 1 or not self.offset > 0:
            raise ValueError(
                'pointnet: expected points of 1 or more and offset above 0, got '
                f'{self.points}, {self.offset}'
            )


@dataclass(frozen=True)
class DistillConfig:
    """Weights of the terms, 0 to leave one out, and their settings.

    shared: L_sc. local_global, feature, gradient: L_lg, L_feat and L_grad, with lambda 1, 2 and 3
        of Distill Any Depth. channel_wise, geometric: of the label-free paper. squared: its plain
        normalized squared error.
    normalization: of L_sc, L_lg and L_grad.
    temperature: of the channel-wise softmax.
    patch_rows, patch_columns, patch_overlap: of the windows of L_lg.
    feature_level, teacher_level: whose features L_feat compares, -1 for the last ones;
        feature_kind: 'mse' or 'cosine'.
    gradient_scales: sizes of L_grad.
    """

    shared: float = 0.0
    local_global: float = 0.0
    feature: float = 0.0
    gradient: float = 0.0
    channel_wise: float = 0.0
    geometric: float = 0.0
    squared: float = 0.0
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)
    temperature: float = 1.0
    pointnet: PointNetConfig = field(default_factory=PointNetConfig)
    patch_rows: int = 2
    patch_columns: int = 2
    patch_overlap: float = 0.5
    feature_level: int = -1
    teacher_level: int = -1
    feature_kind: str = 'mse'
    gradient_scales: int = 4

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in TERMS}
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise ValueError(f'loss: expected weights >= 0 with one above 0, got {weights}')
        if self.feature_kind not in FEATURES:
            raise ValueError(
                f'feature_kind: expected one of {FEATURES}, got {self.feature_kind!r}'
            )
        if not self.temperature > 0 or self.gradient_scales < 1:
            raise ValueError(
                'loss: expected temperature above 0 and gradient_scales of 1 or more, got '
                f'{self.temperature}, {self.gradient_scales}'
            )


TERMS = (
    'shared',
    'local_global',
    'feature',
    'gradient',
    'channel_wise',
    'geometric',
    'squared',
)


@dataclass(frozen=True)
class MonoDataConfig:
    """Images in; no labels.

    sources: unlabelled images; scenes: a folder of simulated frames. labels: a folder of
        ``training.mono.labels``, which is read in place of both; held_out: images (parts, of
        labels) kept for validation, the first of the random order.
    """

    sources: tuple[SourceConfig, ...] = ()
    scenes: str = ''
    labels: str = ''
    held_out: int = 32
    crop: CropConfig = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        if not self.sources and not self.scenes:
            raise ValueError('data: expected sources of images or scenes, got neither')
        if self.held_out < 1:
            raise ValueError(f'held_out: expected 1 or more, got {self.held_out}')


@dataclass(frozen=True)
class MonoConfig(TrainConfig):
    """One run of monocular distillation; what it shares with the others is described there.

    network: the student, a name of ``dmd3c_ros.core.networks.mono``. encoder: file of a released
        Topformer that a light student's encoder begins from.
    teachers: the first is the primary one, by which validation goes where images have no depth.
    """

    data: MonoDataConfig
    loss: DistillConfig
    network: str = 'topformer_small'
    encoder: str = ''
    teachers: tuple[MonoTeacherConfig, ...] = (MonoTeacherConfig(),)
    sync_norm: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.teachers:
            raise ValueError('teachers: expected one or more, got none')
        exact = [teacher.model == EXACT for teacher in self.teachers]
        if any(exact) and not all(exact) and not self.data.labels:
            raise ValueError(
                'teachers: exact depth and a network teach together through labels on disk only '
                '(data.labels)'
            )
        if self.loss.feature and (self.data.labels or any(exact)):
            raise ValueError(
                'loss.feature: expected a network that teaches while training; labels and exact '
                'depth have no features'
            )

    @classmethod
    def network_names(cls) -> tuple[str, ...]:
        return mono.names()

    @property
    def on_the_fly(self) -> bool:
        """Whether networks teach while the student trains."""
        return not self.data.labels and self.teachers[0].model != EXACT

    def content(self) -> dict:
        content = super().content()
        # Where the same weights or images lie does not matter, which they are does.
        content['teachers'] = [{**asdict(t), 'model': Path(t.model).name} for t in self.teachers]
        return content
