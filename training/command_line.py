"""Shared code of the training commands: settings from a file, errors in one line."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from training.settings import load

C, R = TypeVar('C'), TypeVar('R')


def add_settings(parser: argparse.ArgumentParser, kind: type, required: bool = True) -> None:
    """The options --config and --set, as ``config.load`` takes them for a dataclass."""
    parser.add_argument(
        '--config', required=required, help=f'YAML file of settings: {kind.__name__}'
    )
    parser.add_argument(
        '--set', nargs='*', default=[], metavar='KEY=VALUE', help='change settings'
    )


@contextmanager
def short_errors(command: str) -> Iterator[None]:
    """Wrong settings and files end the command with one line, not with a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise SystemExit(f'{command}: {error}') from error


def run_command(
    name: str,
    kind: type[C],
    action: Callable[[C], R],
    arguments: Sequence[str] | None,
    description: str | None,
    check: Callable[[C], object] | None = None,
) -> R | None:
    """Run a training command that only takes settings.

    check: called instead if --check is given.
    """
    parser = argparse.ArgumentParser(prog=f'python -m training.{name}', description=description)
    add_settings(parser, kind)
    if check is not None:
        parser.add_argument(
            '--check',
            action='store_true',
            help='read all data, run some iterations, and estimate',
        )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(asctime)s %(message)s')
    # Lightning's notices repeat at every checkpoint.
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    with short_errors(name):
        config = load(kind, args.config, args.set)
        if check is not None and args.check:
            check(config)
            return None
        return action(config)
