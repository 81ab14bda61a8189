"""`dmd3c bench speed`: latency, memory and cost of the networks on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonFile, given

if TYPE_CHECKING:
    from rich.table import Table

    from dmd3c_ros.benchmarks.precision import Deviation, NearestTiming
    from dmd3c_ros.benchmarks.speed import BenchmarkConfig, Case
    from dmd3c_ros.pipeline.arrays import CompletionInputs

_LOWER = ('bfloat16', 'float16')


def benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(
            show_default='light',
            help='NAME or NAME=CHECKPOINT; may be repeated; all: every network. Without '
            'CHECKPOINT the weights are random.',
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(show_default='352x1216', help='HEIGHTxWIDTH, pixels; may be repeated.'),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(show_default='auto', help='auto, cpu, cuda or cuda:N; may be repeated.'),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            show_default='auto', help='auto, float32, bfloat16 or float16; may be repeated.'
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            show_default='auto', help='auto, openvino, eager, compile or onnx; may be repeated.'
        ),
    ] = None,
    points: Annotated[
        float | None, typer.Option(show_default='0.047', help='Fraction of pixels with a depth.')
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(show_default='5', help='Measuring time for the slowest case, s.'),
    ] = None,
    turns: Annotated[
        int | None, typer.Option(show_default='5', help='Minimum number of runs of each case.')
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, show_default='all cores', help='CPU threads.'),
    ] = None,
    nearest: Annotated[
        bool,
        typer.Option(help="Also time BP-Net's neighbour search, compared with brute force."),
    ] = True,
    frames: Annotated[
        Path | None,
        typer.Option(
            show_default='none',
            help='KITTI raw drive: also compare lower precisions with float32 on its frames.',
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help='Frames to compare on.')] = 8,
    json: JsonFile = None,
) -> None:
    """Time completions side by side, from arrays to arrays, and print a table."""
    import torch

    from dmd3c_ros.benchmarks.precision import time_nearest
    from dmd3c_ros.benchmarks.speed import BenchmarkConfig, machine, run

    from .console import console, fail

    try:
        config = BenchmarkConfig(
            **given(
                models=model and tuple(m for name in model for m in _models(name)),
                sizes=size and tuple(parse_size(text) for text in size),
                devices=_tuple(device),
                precisions=_tuple(precision),
                backends=_tuple(backend),
                points=points,
                seconds=seconds,
                turns=turns,
            )
        )
        if threads:
            torch.set_num_threads(threads)
        with console().status('') as status:
            cases = run(config, status.update)
            if not cases:
                raise fail('nothing could be measured')
            devices = dict.fromkeys(case.device for case in cases)
            searches = [
                time_nearest(size, config.points, device)
                for size in (config.sizes if nearest else ())
                for device in devices
            ]
            status.update('comparing precisions')
            differences = _compare(config, frames, limit) if frames else []
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    _report(machine(), cases, searches, differences, json)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None


def _models(name: str) -> tuple[str, ...]:
    from dmd3c_ros.core import networks

    return networks.names() if name == 'all' else (name,)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of HEIGHTxWIDTH; ValueError for anything else."""
    height, _, width = text.lower().partition('x')
    if not (height.isdecimal() and width.isdecimal()):
        raise ValueError(f'--size: expected HEIGHTxWIDTH such as 352x1216, got {text!r}')
    return int(height), int(width)


def _compare(config: 'BenchmarkConfig', drive: Path, limit: int) -> 'list[Deviation]':
    """Deviations of the lower precisions on the frames of a drive."""
    from dmd3c_ros.benchmarks.precision import deviations
    from dmd3c_ros.core.config import CompleterConfig

    frames = _frames(drive, limit)
    found = []
    for model in config.models:
        name, _, weights = model.partition('=')
        for device in config.devices:
            settings = CompleterConfig(model=name, weights=weights, device=device)
            found += deviations(settings, _LOWER, frames)
    return found


def _frames(drive: Path, limit: int) -> 'list[CompletionInputs]':
    from dmd3c_ros.core.projection import project_points
    from dmd3c_ros.io.kitti_raw import KittiDrive
    from dmd3c_ros.pipeline.arrays import CompletionInputs

    kitti = KittiDrive(drive)
    count = min(limit, len(kitti))
    picked = [kitti[index * len(kitti) // count] for index in range(count)]
    return [
        CompletionInputs(
            frame.rgb,
            project_points(frame.points, kitti.T_camera_lidar, kitti.camera),
            kitti.camera.K,
        )
        for frame in picked
    ]


def _report(
    machine: dict[str, object],
    cases: 'list[Case]',
    searches: 'list[NearestTiming]',
    differences: 'list[Deviation]',
    path: Path | None,
) -> None:
    from .console import result_console, write_numbers

    console = result_console()
    console.print(', '.join(f'{key} {value}' for key, value in machine.items()), highlight=False)
    console.print(_case_table(cases))
    if searches:
        console.print(_search_table(searches))
    if differences:
        console.print(_deviation_table(differences))
    if path is not None:
        numbers = {
            'machine': machine,
            'cases': [case.as_dict() for case in cases],
            'nearest': [search.as_dict() for search in searches],
            'deviations': [difference.as_dict() for difference in differences],
        }
        write_numbers(path, numbers)


def _case_table(cases: 'list[Case]') -> 'Table':
    from rich.table import Table

    table = Table(title='image to depth, arrays in host memory')
    for heading in ('model', 'weights', 'size', 'device', 'precision', 'back end'):
        table.add_column(heading)
    for heading in ('M params', 'GFLOP', 'first ms', 'median ms', 'p99 ms', 'frames/s'):
        table.add_column(heading, justify='right')
    for heading in ('peak MB', 'runs', 'ratio'):
        table.add_column(heading, justify='right')
    for case in cases:
        values = case.as_dict()
        table.add_row(
            *(case.model, case.weights, 'x'.join(map(str, case.size))),
            *(case.device, case.precision, case.backend),
            f'{case.parameters / 1e6:.2f}',
            f'{case.gflop:.1f}',
            f'{values["first_ms"]:.0f}',
            f'{values["median_ms"]:.1f}',
            f'{values["p99_ms"]:.1f}',
            f'{values["per_second"]:.1f}',
            f'{values["memory_mb"]:.0f}',
            str(values['runs']),
            f'{case.ratio:.2f}',
        )
    return table


def _search_table(searches: 'list[NearestTiming]') -> 'Table':
    from rich.table import Table

    table = Table(title='four nearest measurements of every pixel')
    for heading in ('size', 'points', 'device', 'ms', 'brute force ms', 'times as fast', 'same'):
        table.add_column(heading, justify='right')
    for search in searches:
        table.add_row(
            'x'.join(map(str, search.size)),
            str(search.points),
            search.device,
            f'{search.ours * 1e3:.1f}',
            f'{search.brute_force * 1e3:.1f} (from {search.timed} pixels)',
            f'{search.brute_force / search.ours:.1f}',
            'yes' if search.equal else 'NO',
        )
    return table


def _deviation_table(differences: 'list[Deviation]') -> 'Table':
    from rich.table import Table

    table = Table(title='difference to float32')
    for heading in ('model', 'weights', 'device', 'precision'):
        table.add_column(heading)
    for heading in ('frames', 'RMSE mm', 'mean mm', '99 % mm', '% of spread'):
        table.add_column(heading, justify='right')
    for item in differences:
        table.add_row(
            *(item.model, item.weights, item.device, item.precision, str(item.frames)),
            *(f'{value:.2f}' for value in (item.rmse_mm, item.mean_mm, item.p99_mm)),
            f'{100 * item.share:.2f}',
        )
    return table
