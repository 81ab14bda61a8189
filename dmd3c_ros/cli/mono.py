"""`dmd3c evaluate-mono`: zero-shot tables of monocular networks, one row a command."""

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonFile, given


def evaluate_mono(
    weights: Annotated[
        str,
        typer.Argument(
            help='File of a monocular network (a student, or Depth Anything V2), or a folder of '
            'the transformers library.'
        ),
    ],
    dataset: Annotated[
        str,
        typer.Option(help='nyu, kitti-eigen, scannet, diode, eth3d, or rings for a KITTI drive.'),
    ],
    root: Annotated[Path, typer.Option(help='Folder of the data set.')],
    align: Annotated[
        str,
        typer.Option(
            help='By ground truth: disparity (least squares of inverse depth), depth, log_depth, '
            'median, none; or by the sparse input: points.'
        ),
    ] = 'disparity',
    size: Annotated[
        int, typer.Option(min=0, help="The image's shorter side for the network; 0: as it is.")
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, show_default='all', help='Frames, spread over all.')
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(min=1, show_default="the data set's", help='Input points, for points.'),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(show_default='both', help='diode: indoors or outdoor.')
    ] = None,
    device: Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')] = 'auto',
    json: JsonFile = None,
) -> None:
    """Score relative depth after alignment: AbsRel and delta 1, as the zero-shot tables do."""
    from dmd3c_ros.core.relative import RelativeDepth
    from dmd3c_ros.datasets import open_dataset
    from dmd3c_ros.evaluation.relative import LIMITS, evaluate_relative

    from .console import fail, progress_bar, say, write_numbers

    try:
        frames = open_dataset(dataset, root, **given(points=points, kind=kind))
        network = RelativeDepth(weights, size, device)
        count = min(limit or len(frames), len(frames))
        with progress_bar() as progress:
            task = progress.add_task(network.name, total=count)
            result = evaluate_relative(
                network.predict,
                frames,
                align,
                LIMITS.get(dataset, (0.001, 1000.0)),
                [index * len(frames) // count for index in range(count)],
                lambda: progress.advance(task),
            )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise fail(error) from error
    for frame, reason in result.failures.items():
        say(f'failed {frame}: {reason}')
    if result.mean is None:
        raise fail('no frame has ground truth in the range that counts')
    _show(network.name, dataset, align, result)
    if json is not None:
        write_numbers(
            json,
            {
                'weights': weights,
                'dataset': dataset,
                'align': align,
                'frames': len(result.metrics),
                'mean': result.mean.as_dict(),
            },
        )
    if result.failures:
        raise fail(f'{len(result.failures)} frames failed; the mean is over the others')


def _show(name: str, dataset: str, align: str, result: object) -> None:
    from rich.table import Table

    from .console import result_console

    table = Table(title=f'{name} on {dataset}, aligned by {align}')
    for title in ('frames', 'AbsRel', 'delta 1', 'RMSE m'):
        table.add_column(title, justify='right')
    mean = result.mean
    table.add_row(
        str(len(result.metrics)),
        f'{mean.rel:.4f}',
        f'{mean.delta_1_25:.4f}',
        f'{mean.rmse_mm / 1000:.3f}',
    )
    result_console().print(table)
