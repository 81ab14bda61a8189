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
    complete,
    confidence,
    demo,
    evaluate,
    export,
    miniature,
    motion,
    odometry,
    soak,
    view,
    weights,
)

app = typer.Typer(
    name='dmd3c',
    help='Dense metric depth from a camera and a LiDAR.',
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode='markdown',
)
complete.app.command(name='bag')(bag.complete_bag)
app.add_typer(complete.app, name='complete')
app.add_typer(export.app, name='export')
app.add_typer(weights.app, name='weights')
app.command(name='bag-info')(bag.bag_info)
app.command(name='benchmark')(benchmark.benchmark)
app.command(name='benchmark-confidence')(confidence.benchmark_confidence)
app.command(name='benchmark-motion')(motion.benchmark_motion)
app.command(name='demo')(demo.demo)
app.command(name='evaluate')(evaluate.evaluate)
app.command(name='kitti-to-bag')(bag.kitti_to_bag)
app.command(name='miniature')(miniature.miniature)
app.command(name='odometry')(odometry.odometry)
app.command(name='soak')(soak.soak)
app.command(name='view')(view.view)


def main() -> None:
    """Run the command line."""
    # As Ctrl-C: what is half done is taken back on the way out.
    signal.signal(signal.SIGTERM, _end)
    app()


def _end(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _show_version(wanted: bool) -> None:
    if wanted:
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

    # What libraries tell, exporting a network for one, fills screens.
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format='%(message)s',
        handlers=[RichHandler(console=console(), show_path=False)],
        force=True,
    )
    logging.getLogger('dmd3c_ros').setLevel(logging.DEBUG if verbose else logging.INFO)
