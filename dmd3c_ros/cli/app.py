"""Top of the command: its groups, its version, its log.

Nothing heavy is imported before a command runs, so that help appears at once.
"""

import logging
import signal
from typing import Annotated

import typer

from . import (
    bag,
    benchmark,
    calib,
    check,
    complete,
    confidence,
    demo,
    droid,
    evaluate,
    export,
    live,
    mesh,
    miniature,
    mono,
    motion,
    odometry,
    slam,
    soak,
    view,
    weights,
    zoo,
)

app = typer.Typer(
    name='dmd3c',
    help='Dense metric depth from a camera and a LiDAR.',
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode='markdown',
)
complete.app.command(name='bag')(bag.complete_bag)
export.app.command(name='miniature')(miniature.miniature)
export.app.command(name='zoo')(zoo.zoo)
export.app.command(name='mesh')(mesh.mesh)
bench = typer.Typer(
    help='Benchmark speed, confidence, motion, odometry, SLAM and robustness.',
    no_args_is_help=True,
)
bench.command(name='speed')(benchmark.benchmark)
bench.command(name='confidence')(confidence.benchmark_confidence)
bench.command(name='motion')(motion.benchmark_motion)
bench.command(name='odometry')(odometry.odometry)
bench.command(name='node')(live.live)
bench.command(name='slam')(slam.benchmark_slam)
bench.command(name='droid')(droid.benchmark_droid)
bench.command(name='soak')(soak.soak)
# In the order of help.
app.add_typer(complete.app, name='complete')
app.command(name='check')(check.check)
app.command(name='evaluate')(evaluate.evaluate)
app.command(name='evaluate-mono')(mono.evaluate_mono)
app.add_typer(bag.app, name='bag')
app.add_typer(calib.app, name='calib')
app.add_typer(export.app, name='export')
app.add_typer(weights.app, name='weights')
app.command(name='view')(view.view)
app.command(name='demo')(demo.demo)
app.add_typer(bench, name='bench')


def main() -> None:
    """Run the command line."""
    # Like Ctrl-C: unfinished output is cleaned up on exit.
    signal.signal(signal.SIGTERM, _end)
    app()


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _show_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f'dmd3c {version("dmd3c_ros")}')
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[
        bool,
        typer.Option('--version', callback=_show_version, is_eager=True, help='Show the version.'),
    ] = False,
    verbose: Annotated[bool, typer.Option('--verbose', '-v', help='Log details.')] = False,
) -> None:
    """Set up the log, on the standard error with the progress bars."""
    from rich.logging import RichHandler

    from .console import console

    # Messages of libraries, for example when exporting a network, fill screens.
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format='%(message)s',
        handlers=[RichHandler(console=console(), show_path=False)],
        force=True,
    )
    logging.getLogger('dmd3c_ros').setLevel(logging.DEBUG if verbose else logging.INFO)
