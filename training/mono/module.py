"""What is trained and validated: a student, its averaged copy, and who teaches it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dmd3c_ros.core.alignment import align_to_truth
from dmd3c_ros.core.networks import mono
from dmd3c_ros.core.networks.mono.student import Student
from dmd3c_ros.core.weights.checkpoint import read_state
from dmd3c_ros.core.weights.mono import load_encoder, load_state
from dmd3c_ros.evaluation.metrics import depth_metrics
from training.engine.module import Training
from training.losses.recipes import LossTerms

from .data import MonoSamples
from .labels import windows
from .normalization import NormalizationConfig, distance
from .objective import Objective
from .settings import MonoConfig
from .teaching import Taught, Teachers


class Distillation(Training):
    """Training of a monocular student.

    Validation: distance, between student and primary teacher (or exact inverse depth), both by
    their median and mean absolute deviation; where images have exact depth, absrel and delta1
    of depth after the scale and shift of least squares in inverse depth.
    """

    scores = ('distance', 'absrel', 'delta1')
    watched = 'distance'

    config: MonoConfig

    def build_network(self) -> nn.Module:
        network = mono.build(self.config.network)
        crop, multiple = self.config.data.crop, network.convention.size_multiple
        if crop.height % multiple or crop.width % multiple:
            raise ValueError(
                f'crop: expected multiples of {multiple} pixels for {self.config.network}, got '
                f'{crop.width}x{crop.height}'
            )
        if self.config.encoder:
            if not isinstance(network, Student):
                raise ValueError(
                    f'encoder: expected a light student (topformer), got {self.config.network}'
                )
            load_encoder(network, self.config.encoder)
        if self.config.initial_weights:
            path = self.config.initial_weights
            load_state(network, read_state(path), path)
        return network

    def build_objective(self) -> Objective:
        c = self.config.loss
        self._windows = windows(self.config.data.crop, self.config) if c.local_global else []
        teachers, widths = None, None
        if self.config.on_the_fly:
            teachers = Teachers(self.config.teachers, c.teacher_level if c.feature else None)
        if c.feature:
            widths = self.network.feature_channels[c.feature_level], teachers.feature_width()
        # In a list, out of the module's state: a checkpoint need not hold what never changes.
        self._teachers = [teachers]
        torch.manual_seed(self.config.seed)
        return Objective(c, self._windows, widths)

    def open_data(self) -> MonoSamples:
        return MonoSamples(self.config, self.network.convention)

    def trained(self) -> list[nn.Parameter]:
        own = [p for p in self._objective.parameters() if p.requires_grad]
        return [*super().trained(), *own]

    def loss(self, batch: Mapping[str, Tensor]) -> LossTerms:
        output = self.network(_image(batch))
        taught = self._teach(batch)
        # Outside autocast: exponentials of half precision would lose what they compare.
        with torch.autocast(self.device.type, enabled=False):
            output = output._replace(disparity=output.disparity.float())
            return self._objective(output, taught, batch['K'])

    def _teach(self, batch: Mapping[str, Tensor]) -> Taught:
        if 'label' in batch:
            return Taught(batch['label'], list(batch.get('patches', ())), None)
        return self._teachers[0].to(self.device)(
            batch['plain'], batch['large'], batch['teacher'], self._windows
        )

    def validation_step(self, batch: Mapping[str, Tensor], index: int) -> None:
        """The averaged weights on one part of an image."""
        found = self.average.module(_image(batch)).disparity.float()
        label = self._teach(batch).label
        known = label.isfinite()
        wanted = label.where(known, label.new_zeros(()))
        score = {'distance': float(distance(found, wanted, known, NormalizationConfig('global')))}
        if 'depth' in batch:
            truth, values = batch['depth'][0, 0].cpu().numpy(), found[0, 0].cpu().numpy()
            depth = align_to_truth(values, truth)
            metrics = depth_metrics(depth, truth, missing='ignore')
            if metrics is not None:
                score |= {'absrel': metrics.rel, 'delta1': metrics.delta_1_25}
        self._scores.append(score)


def _image(batch: Mapping[str, Tensor]) -> Tensor:
    return batch['image'].contiguous(memory_format=torch.channels_last)
