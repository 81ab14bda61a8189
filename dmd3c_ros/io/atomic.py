"""Writing a file so that a reader sees either the old one or the whole new one."""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to `path` when the block succeeds.

    The folder is created if it is missing. If the block raises, nothing is left behind and an
    older file of that name is unchanged. An OSError without a file name, such as that of a full
    disk, gets the name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}-{threading.get_ident()}.tmp')
    try:
        with temporary.open('wb') as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_write(path) as file:
        file.write(data)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all of them or, where one cannot be written, none."""
    with ExitStack() as stack:
        for path, data in files.items():
            file = stack.enter_context(atomic_write(path))
            file.write(data)
            # A full disk shows here, before the first of them has its name.
            file.flush()


def check_folder(path: str | Path) -> None:
    """Create a folder if it is missing, and check that files can be written there.

    For long computations: the OSError naming the path comes before, not after.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{path}: expected a folder, got a file')
    path.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        # It names the temporary file, which the user does not know.
        raise OSError(error.errno, f'cannot be written to: {error.strerror}', str(path)) from error


def check_file(path: str | Path) -> None:
    """As `check_folder` for a file to be written, whose folder is created."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path}: expected a file name, got a folder')
    check_folder(path.parent)


def write_json(path: str | Path, content: object) -> None:
    """Write `content` to `path` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(content, indent=2) + '\n').encode())
