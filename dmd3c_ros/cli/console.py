"""Where commands write to a person: standard error, so that results can go to standard output."""

from functools import lru_cache
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PIPE_WIDTH = 200


@lru_cache(maxsize=1)
def console() -> Console:
    """The console shared by the log and progress bars."""
    return Console(stderr=True)


def result_console() -> Console:
    """The console for results: standard output, as wide as needed if it is not a terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=_PIPE_WIDTH)


def progress_bar(*counts: ProgressColumn) -> Progress:
    """A bar with counts, by default of items, and times."""
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        *(counts or [MofNCompleteColumn()]),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
        console=console(),
        refresh_per_second=4,
    )


def fail(message: object) -> typer.Exit:
    """Say what went wrong; the caller raises the returned exit with code 1."""
    if isinstance(message, OSError) and message.filename and message.strerror:
        # Python's own text starts with an errno, which means nothing to users.
        message = f'{message.filename}: {message.strerror}'
    console().print(f'[bold red]error:[/] {_escape(message)}', highlight=False, soft_wrap=True)
    return typer.Exit(1)


def say(message: str) -> None:
    """Say one line."""
    console().print(_escape(message), highlight=False, soft_wrap=True)


def write_numbers(path: Path, numbers: object) -> None:
    """Write numbers as JSON; a path that cannot be written ends the command with the reason."""
    from dmd3c_ros.io.atomic import write_json

    try:
        write_json(path, numbers)
    except OSError as error:
        raise fail(error) from error
    say(f'numbers in {path}')


def _escape(message: object) -> str:
    from rich.markup import escape

    return escape(str(message))
