"""Measure generation and training: ``python -m training.measure {stages,...,training} ...``.

stages: CPU time of each step of a sample, on one core.
surfaces: time, and deviation from the depth image, of the grid mesh and of Poisson reconstruction.
sweeps: density, line spacing and ranges of simulated HDL-64E sweeps beside real ones of KITTI.
training: time and memory of an iteration of a run, step by step, and the days that the run takes.
    On a CPU in one thread; a batch that does not fit goes through in parts (--set accumulate=16).
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from training.command_line import add_settings, short_errors
from training.generation.casting import HeightField, mesh_caster
from training.generation.maker import GenerateConfig, Maker, Rejected
from training.generation.mesh import GridSurface, poisson_mesh
from training.generation.sensors import draw_sweep
from training.generation.shards import StoredSample, decode_sample, encode_sample
from training.generation.simulate import View, sparse_depth, surface_caster
from training.generation.teacher import open_teacher
from training.settings import load

if TYPE_CHECKING:
    from training.engine.settings import TrainConfig

log = logging.getLogger(__name__)


class Stopwatch:
    """CPU time of this process by step, s."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.spent[step].append(time.process_time() - start)


def measure_stages(config: GenerateConfig, count: int) -> Table:
    """CPU time a sample and samples a second and core of each step."""
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    maker, teacher, watch = Maker(config), open_teacher(config.teacher), Stopwatch()
    for index in range(min(count, len(maker.source))):
        with watch('read'):
            image = maker.read(index)
        if isinstance(image, Rejected):
            continue
        with watch('teacher'):
            prediction = teacher.predict([image])[0]
        with watch('crop, depth, camera'):
            view = maker.view(index, image, prediction)
        if not isinstance(view, Rejected):
            _measure_view(view, config, index, watch)
    table = Table('step', 'ms', 'samples/s/core', 'share')
    means = {step: float(np.mean(times)) for step, times in watch.spent.items()}
    total = sum(means.values())
    for step, mean in (*means.items(), ('all', total)):
        table.add_row(step, f'{1e3 * mean:.1f}', f'{1 / mean:.1f}', f'{100 * mean / total:.0f} %')
    return table


def _measure_view(view: View, config: GenerateConfig, index: int, watch: Stopwatch) -> None:
    rng = np.random.default_rng([config.seed, index, 1])
    simulation = config.simulation
    with watch(f'surface ({simulation.surface})'):
        caster = surface_caster(view, simulation)
    with watch('sensor: rays, casting'):
        sweep = draw_sweep(view.rgb, view.depth, view.camera, caster, simulation.sensor, rng)
    with watch('project'):
        sparse = sparse_depth(sweep, view.camera)
    with watch('encode'):
        sample = StoredSample(view.rgb, view.depth, sparse, view.camera.K, {})
        members = encode_sample(sample, config.jpeg_quality)
    with watch('decode (in training)'):
        decode_sample(members)


def measure_surfaces(config: GenerateConfig, count: int) -> Table:
    """Grid and Poisson surfaces: CPU time, and what a ray through each pixel meets."""
    maker, teacher, watch = Maker(config), open_teacher(config.teacher), Stopwatch()
    deviations: dict[str, list[np.ndarray]] = defaultdict(list)
    for index in range(min(count, len(maker.source))):
        image = maker.read(index)
        if isinstance(image, Rejected):
            continue
        view = maker.view(index, image, teacher.predict([image])[0])
        if isinstance(view, Rejected):
            continue
        for name, build in _surfaces(view, config).items():
            with watch(name):
                caster = build()
            deviations[name].append(_deviation(view, caster))
    table = Table('surface', 'ms', 'met', 'median', 'p90', 'p99', 'above 5 %')
    for name, rows in deviations.items():
        met, *quantiles, far = np.mean(rows, axis=0)
        table.add_row(
            name,
            f'{1e3 * np.mean(watch.spent[name]):.0f}',
            *(f'{100 * value:.2f} %' for value in (met, *quantiles, far)),
        )
    return table


def _surfaces(view: View, config: GenerateConfig) -> dict[str, Callable[[], Callable]]:
    simulation = config.simulation
    surface = GridSurface.of(view.depth, view.camera, simulation.cut)

    def tree() -> Callable:
        caster = mesh_caster(surface.vertices(), surface.triangles())
        caster(np.zeros(3), np.array([[0, 0, 1.0]]))  # Open3D builds its tree at the first ray
        return caster

    return {
        'grid, on the image': lambda: (
            HeightField(GridSurface.of(view.depth, view.camera, simulation.cut)).cast
        ),
        'grid, tree of triangles': tree,
        'Poisson': lambda: mesh_caster(*poisson_mesh(surface, simulation.poisson)),
    }


def _deviation(view: View, caster: Callable) -> np.ndarray:
    """Share of the known pixels whose ray meets the surface; median, 90 and 99 % quantile of the
    relative error there, and the share above 5 %."""
    camera = view.camera
    rays = camera.backproject(np.ones(view.depth.shape, np.float32)).reshape(-1, 3).astype(float)
    length = np.linalg.norm(rays, axis=1)
    z = caster(np.zeros(3), rays / length[:, None]) / length
    known = view.depth.ravel() > 0
    met = known & np.isfinite(z)
    error = np.abs(z[met] - view.depth.ravel()[met]) / view.depth.ravel()[met]
    if not len(error):
        return np.zeros(5)
    return np.r_[
        met.sum() / known.sum(), np.quantile(error, [0.5, 0.9, 0.99]), (error > 0.05).mean()
    ]


def measure_training(config: TrainConfig, count: int) -> Table:
    """Time of a part of the batch by step, and what follows for the run."""
    from training.engine.timing import time_training

    timing = time_training(config, count)
    table = Table('step', f'ms, {timing.samples} samples', 'share')
    total = sum(timing.seconds.values())
    for step, seconds in timing.seconds.items():
        table.add_row(step, f'{1e3 * seconds:.1f}', f'{100 * seconds / total:.0f} %')
    for term, seconds in timing.alone.items():
        table.add_row(f'  of the losses, {term} alone', f'{1e3 * seconds:.1f}', '')
    table.add_section()
    table.add_row(f'iterations a second, batch {config.batch}', f'{1 / timing.iteration:.3g}', '')
    table.add_row('with one loading core', f'{1 / timing.loading:.3g}', '')
    table.add_row('peak memory', f'{timing.gigabytes:.2f} GB', '')
    for devices in (1, 8):
        days = timing.days(config.iterations, devices)
        table.add_row(
            f'{config.iterations} iterations, {devices} such devices', f'{days:.2f} days', ''
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m training.measure', description=__doc__)
    parser.add_argument('what', choices=('stages', 'surfaces', 'sweeps', 'training'))
    # All but sweeps need them.
    add_settings(parser, GenerateConfig, required=False)
    parser.add_argument(
        '--count', type=int, default=20, help='number of samples, sweeps or iterations'
    )
    parser.add_argument('--drive', help='a real KITTI drive, for sweeps')
    parser.add_argument('--figure', help='PNG to write, for sweeps')
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    with short_errors('measure'):
        table = _run(args)
    Console().print(table)


def _run(args: argparse.Namespace) -> Table:
    if args.what == 'sweeps':
        from training.generation.sweep_statistics import compare

        if not args.drive:
            raise ValueError('sweeps: expected --drive, the folder of a KITTI drive')
        return compare(args.drive, args.count, args.figure)
    if not args.config:
        raise ValueError(f'{args.what}: expected --config')
    if args.what == 'training':
        from training.engine.settings import TrainConfig

        return measure_training(load(TrainConfig, args.config, args.set), args.count)
    config = replace(load(GenerateConfig, args.config, args.set), workers=1)
    measure = measure_stages if args.what == 'stages' else measure_surfaces
    return measure(config, args.count)


if __name__ == '__main__':
    main()
