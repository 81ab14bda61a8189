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
    """Open a temporary file that takes the name `path` when the block ends well.

    The folder is made where it is missing. When the block raises, nothing is left behind and an
    older file of that name stays as it was. An OSError that names no file, such as that of a full
    disk, is given the name.
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
    """Make a folder where it is missing, and find out whether files can be written there.

    For what takes long to compute: OSError naming the path comes before, not after.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{path}: expected a folder, got a file')
    path.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        # It names the temporary file, of which nobody has heard.
        raise OSError(error.errno, f'cannot be written to: {error.strerror}', str(path)) from error


def check_file(path: str | Path) -> None:
    """As `check_folder` for a file that is to be written, whose folder is made."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f'{path}: expected a file name, got a folder')
    check_folder(path.parent)


def write_json(path: str | Path, content: object) -> None:
    """Write `content` to `path` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(content, indent=2) + '\n').encode())
