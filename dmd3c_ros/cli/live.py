"""`dmd3c bench node`: the node at a given rate, under other load."""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .benchmark import parse_size
from .options import COMPLETION, JsonFile, given, with_options

if TYPE_CHECKING:
    from rich.table import Table

    from dmd3c_ros.benchmarks.live.config import LiveResult


@with_options({name: kind for name, kind in COMPLETION.items() if name != 'backend'})
def live(
    backend: Annotated[
        list[str] | None,
        typer.Option(show_default='auto', help='Back end of the node; several are compared.'),
    ] = None,
    tree: Annotated[
        list[Path] | None,
        typer.Option(
            show_default='this one',
            help='Checkout to run the node from; several are compared ("." is this one).',
        ),
    ] = None,
    max_latency: Annotated[
        list[float] | None,
        typer.Option(
            show_default='no limit',
            help='Latency, s, for which the node reduces the scale; several are compared.',
        ),
    ] = None,
    niceness: Annotated[
        list[int] | None,
        typer.Option(show_default='0', help='Niceness of the node; several are compared.'),
    ] = None,
    rate: Annotated[float | None, typer.Option(show_default='10', help='Sets per second.')] = None,
    frames: Annotated[
        int | None, typer.Option(show_default='100', help='Measured sets per run.')
    ] = None,
    size: Annotated[
        str | None, typer.Option(show_default='352x1216', help='HEIGHTxWIDTH, pixels.')
    ] = None,
    lines: Annotated[int | None, typer.Option(show_default='64', help='LiDAR lines.')] = None,
    columns: Annotated[
        int | None, typer.Option(show_default='1800', help='Points per line.')
    ] = None,
    load: Annotated[
        int | None,
        typer.Option(
            show_default='0', help='Other processes that load the CPU at normal priority.'
        ),
    ] = None,
    turns: Annotated[
        int | None, typer.Option(show_default='1', help='Runs of each case, interleaved.')
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option(show_default='not kept', help='Folder for the logs of the nodes.'),
    ] = None,
    json: JsonFile = None,
    *,
    options: dict,
) -> None:
    """Measure the latency of the node's depth and cloud over DDS, from sensor to subscriber.

    Needs ROS 2 and Linux.
    """
    import tempfile

    from .console import console, fail, result_console, write_numbers

    try:
        from dmd3c_ros.benchmarks.live.config import LiveCase, LiveConfig
        from dmd3c_ros.benchmarks.live.driver import measure
        from dmd3c_ros.demo.config import DemoError
    except ImportError as error:
        raise fail(f'needs ROS 2 ({error})') from error
    from dmd3c_ros.benchmarks.speed import machine

    cases = [
        LiveCase(options | given(backend=name, max_latency=limit, niceness=value), path)
        for path, name, limit, value in product(
            tree or [None], backend or [None], max_latency or [None], niceness or [None]
        )
    ]
    try:
        config = LiveConfig(
            **given(
                rate_hz=rate,
                frames=frames,
                size=size and parse_size(size),
                lines=lines,
                columns=columns,
                load=load,
                turns=turns,
            )
        )
        with tempfile.TemporaryDirectory() as folder, console().status('') as status:
            results = measure(config, cases, logs or Path(folder), status.update)
    except (OSError, ValueError, DemoError) as error:
        raise fail(error) from error
    found = machine()
    out = result_console()
    out.print(', '.join(f'{key} {value}' for key, value in found.items()), highlight=False)
    out.print(_table(results, f'{config.rate_hz:g} Hz, {config.load} other processes'))
    out.print(_step_table(results))
    if json is not None:
        from dataclasses import asdict

        write_numbers(
            json,
            {
                'machine': found,
                'config': asdict(config),
                'cases': [result.to_dict() for result in results],
            },
        )


def _table(results: 'list[LiveResult]', title: str) -> 'Table':
    from rich.table import Table

    table = Table(title=f'from sensor to subscriber, ms: {title}')
    for heading in ('case', 'model'):
        table.add_column(heading)
    ways = [f'{way} {percent}' for way in ('depth', 'cloud') for percent in ('p50', 'p99', 'most')]
    for heading in ('sent', 'dropped', *ways, 'processor a set', 'p99 ratio'):
        table.add_column(heading, justify='right')
    first = results[0].percentiles()
    for result in results:
        values = result.percentiles()
        table.add_row(
            result.label,
            result.model,
            str(result.sent),
            str(result.dropped),
            *(
                f'{values[f"{way}_p{percent}_ms"]:.0f}'
                for way in ('depth', 'cloud')
                for percent in (50, 99, 100)
            ),
            f'{sum(result.busy_ms) / len(result.busy_ms):.0f}',
            f'{values["cloud_p99_ms"] / first["cloud_p99_ms"]:.2f}',
        )
    return table


def _step_table(results: 'list[LiveResult]') -> 'Table':
    from rich.table import Table

    from dmd3c_ros.benchmarks.live.config import STEPS

    table = Table(title='in the node, median / p99, ms')
    table.add_column('case')
    for step in STEPS:
        table.add_column(step, justify='right')
    for result in results:
        cells = (
            f'{result.step(f"{step}_p50_ms"):.1f} / {result.step(f"{step}_p99_ms"):.1f}'
            for step in STEPS
        )
        table.add_row(result.label, *cells)
    return table
