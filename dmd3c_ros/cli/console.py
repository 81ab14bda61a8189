"""Where commands write to a person: standard error, so that results can go to standard output."""

from functools import lru_cache

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


@lru_cache(maxsize=1)
def console() -> Console:
    """The one console that log and progress bars share."""
    return Console(stderr=True)


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
    console().print(f'[bold red]error:[/] {_escape(message)}', highlight=False, soft_wrap=True)
    return typer.Exit(1)


def say(message: str) -> None:
    """Say one line."""
    console().print(_escape(message), highlight=False, soft_wrap=True)


def _escape(message: object) -> str:
    from rich.markup import escape

    return escape(str(message))
