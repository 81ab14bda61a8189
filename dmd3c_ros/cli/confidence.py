"""`dmd3c bench confidence`: the effect of `min_confidence`."""

from typing import Annotated

import typer

from .options import COMPLETION, JsonFile, Scene, SceneLidar, given, make_completer, with_options


@with_options(COMPLETION)
def benchmark_confidence(
    scene: Scene = None,
    lidar: SceneLidar = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, show_default='4', help='Frames of each of the four drives.'),
    ] = None,
    far: Annotated[
        float | None,
        typer.Option(show_default='80', help='Ignore surfaces farther than this, m.'),
    ] = None,
    *,
    options: dict,
    json: JsonFile = None,
) -> None:
    """Measure how much depth each min_confidence keeps, and its accuracy, on simulated drives."""
    from dmd3c_ros.benchmarks.confidence import Drives, as_rows, measure

    from .console import console, fail, write_numbers

    completer = make_completer(options)
    try:
        drives = Drives(**given(scene=scene, lidar=lidar, frames=frames, far=far))
        with console().status('rendering and completing'):
            table = measure(completer, drives)
    except (ValueError, ImportError) as error:
        raise fail(error) from error
    _show(table, completer.name)
    if json is not None:
        write_numbers(json, {'model': completer.name, 'thresholds': as_rows(table)})


def _show(table: list, model: str) -> None:
    from rich.table import Table

    from .console import result_console

    shown = Table(title=f'{model}: depth kept by each min_confidence')
    titles = ('surfaces', 'sky', 'MAE m', 'RMSE m', 'off by more than 5 %')
    for title in ('min_confidence', *titles):
        shown.add_column(title, justify='right')
    for row in table:
        shown.add_row(
            f'{row.threshold:.1f}',
            f'{row.surface:.1%}',
            f'{row.sky:.1%}',
            f'{row.mae:.3f}',
            f'{row.rmse:.3f}',
            f'{row.wrong:.1%}',
        )
    result_console().print(shown)
