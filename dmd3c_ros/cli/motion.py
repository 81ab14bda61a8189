"""`dmd3c bench motion`: projection errors of a simulated moving rig, by correction."""

from typing import Annotated

import typer

from .options import JsonFile, given


def benchmark_motion(
    lidar: Annotated[
        str | None,
        typer.Option(
            show_default='hdl64e', help='Scan pattern: hdl64e, vlp16, os1_128 or solid_state.'
        ),
    ] = None,
    image_delay: Annotated[
        float | None,
        typer.Option(
            show_default='0.03', help='Time from when the laser faces forward to the image, s.'
        ),
    ] = None,
    odometry_rate: Annotated[
        float | None,
        typer.Option(min=1.0, show_default='50', help='Rate of transforms on /tf, Hz.'),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, show_default='0', help='Random seed of the street and the noise.'),
    ] = None,
    sweeps: Annotated[int, typer.Option(help='Sweeps per motion; at least 5.')] = 6,
    json: JsonFile = None,
) -> None:
    """Measure the pixel error of points on a moving rig, with and without each correction.

    Uses a simulated street with exact ground truth and the node's own code. Also measures the time
    for a sweep of 114,000 points, without and with deskewing.
    """
    import numpy as np

    from dmd3c_ros.benchmarks.motion import MovingRig, run, time_sweep

    from .console import console, fail, write_numbers

    options = given(lidar=lidar, image_delay=image_delay, odometry_rate=odometry_rate, seed=seed)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    try:
        with console().status('') as status:
            for motion, correction, errors in run(MovingRig(**options), sweeps=sweeps):
                status.update(f'{motion}: {correction.name}')
                median, late, most = np.percentile(errors.distance, (50, 95, 100))
                rows.setdefault(correction.name, {})[str(motion)] = {
                    'points': len(errors.distance),
                    'median_px': round(float(median), 3),
                    'p95_px': round(float(late), 3),
                    'max_px': round(float(most), 3),
                }
            status.update('timing')
            whole, each = (seconds * 1e3 for seconds in time_sweep(MovingRig(**options)))
    except (ValueError, ImportError) as error:
        raise fail(error) from error
    _show(rows)
    typer.echo(f'a sweep of 114,000 points: {whole:.1f} ms as a whole, {each:.1f} ms deskewed')
    if json is not None:
        write_numbers(json, {'errors': rows, 'whole_ms': whole, 'deskewed_ms': each})


def _show(rows: dict) -> None:
    from rich.table import Table

    from .console import result_console

    table = Table(title='error in the image, pixels: median / 95 %')
    table.add_column('correction')
    for motion in next(iter(rows.values())):
        table.add_column(motion, justify='right')
    for name, cells in rows.items():
        numbers = (f'{c["median_px"]:.2f} / {c["p95_px"]:.2f}' for c in cells.values())
        table.add_row(name, *numbers)
    result_console().print(table)
