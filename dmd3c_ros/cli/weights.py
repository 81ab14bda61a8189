"""`dmd3c weights`: the released checkpoints, and the contents of a checkpoint file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from dmd3c_ros.core.weights.checkpoint import Checkpoint

app = typer.Typer(help='Download and inspect checkpoints.', no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option(
        show_default='~/.cache/dmd3c_ros/weights',
        help='Folder to store them in.',
    ),
]


@app.command(name='list')
def list_(folder: Folder = None) -> None:
    """List the known checkpoints: network, training data, licence, size, and local files."""
    from rich.table import Table

    from dmd3c_ros.core.weights.releases import RELEASES, weights_path

    from .console import result_console

    table = Table('name', 'network', 'trained on', 'licence', 'about MB', 'here')
    table.add_column('from', no_wrap=True)
    for item in RELEASES:
        here = 'yes' if weights_path(item, folder).is_file() else 'no'
        if here == 'no' and not item.url:
            here = 'no; by hand only'
        size = f'{item.size_mb:g}'
        table.add_row(
            item.name, item.network, item.trained_on, item.licence, size, here, item.page
        )
    result_console().print(table)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help='Name from `dmd3c weights list`.')],
    folder: Folder = None,
) -> None:
    """Download a checkpoint to the cache, check it, and print its path."""
    from rich.progress import DownloadColumn, TransferSpeedColumn

    from dmd3c_ros.core.weights.download import get as fetch
    from dmd3c_ros.core.weights.releases import release

    from .console import fail, progress_bar, say

    try:
        item = release(name)
        say(f'{item.name}: from {item.page}; licence: {item.licence}')
        with progress_bar(DownloadColumn(), TransferSpeedColumn()) as progress:
            task = progress.add_task(item.file, total=None)
            path = fetch(
                item,
                folder,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    except (OSError, ValueError) as error:
        raise fail(error) from error
    typer.echo(path)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help='Checkpoint file; no code in it is run.')],
) -> None:
    """Show the contents of a checkpoint file: network, conventions, other entries."""
    from rich.table import Table

    from dmd3c_ros.core.weights.checkpoint import read_checkpoint
    from dmd3c_ros.core.weights.download import sha256

    from .console import fail, result_console

    try:
        checkpoint = read_checkpoint(file)
        table = Table(show_header=False)
        table.add_row('file', f'{file} ({file.stat().st_size / 1e6:.1f} MB)')
        table.add_row('sha256', sha256(file))
        _describe(table, checkpoint)
    except (OSError, ValueError) as error:
        raise fail(error) from error
    result_console().print(table)


def _describe(table: 'Table', checkpoint: 'Checkpoint') -> None:
    """Add rows about the contents of a checkpoint."""
    from dmd3c_ros.core import networks
    from dmd3c_ros.core.weights.checkpoint import misfits
    from dmd3c_ros.core.weights.conventions import STATED, convention_of
    from dmd3c_ros.core.weights.releases import closest, meta_network, recognize

    name = recognize(checkpoint.state)
    if name is not None:
        table.add_row('network', name)
    else:
        near, fraction = closest(checkpoint.state)
        table.add_row('network', f'none known; it has {fraction:.0%} of the parameters of {near}')
        table.add_row(
            'differences', '\n'.join(misfits(meta_network(near).state_dict(), checkpoint.state))
        )
    numbers = sum(tensor.numel() for tensor in checkpoint.state.values())
    kinds = sorted({str(t.dtype).removeprefix('torch.') for t in checkpoint.state.values()})
    table.add_row('numbers', f'{numbers:,} in {len(checkpoint.state)} tensors, {", ".join(kinds)}')
    table.add_row('taken off', ', '.join(checkpoint.wrappers) or 'nothing')
    if name is not None:
        convention = convention_of(networks.build(name), checkpoint)
        table.add_row('conventions', _convention_text(convention))
    for key, value in checkpoint.facts.items():
        if key != STATED:
            table.add_row(str(key), _short(value))


def _convention_text(convention) -> str:
    mean, std = (
        ', '.join(f'{value:.3f}' for value in values)
        for values in (convention.mean, convention.std)
    )
    lines = [f'image 0..1: mean {mean}; std {std}']
    if convention.contrast:
        windows = ', '.join(f'{window:g}' for window in convention.contrast)
        lines.append(f'before that, its local contrast in windows of {windows} px')
    if convention.blurred_below:
        lines.append(
            f'and blurred where pixels are less than {convention.blurred_below:g} px '
            'from a point on average'
        )
    if convention.drops_enclosed:
        lines.append('points that nearer ones enclose are left out')
    if convention.depth_scale != 1:
        lines.append(f'depth: metres x {convention.depth_scale:g}')
    if convention.cut_above:
        lines.append(f'up to {convention.cut_above:.0%} of the rows above the points are left out')
    lines.append(f'sizes: multiples of {convention.size_multiple}')
    return '\n'.join(lines)


def _short(value: object) -> str:
    """One line for a number or a text, the kind and size of anything else."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return str(value)[:100]
    if isinstance(value, dict):
        return f'dict with {", ".join(str(key) for key in list(value)[:8])}'
    if hasattr(value, '__dict__') and vars(value):
        return ', '.join(f'{key}={item}' for key, item in sorted(vars(value).items()))[:400]
    return type(value).__name__
