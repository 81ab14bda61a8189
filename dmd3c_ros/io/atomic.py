"""Writing a file so that a reader sees either the old one or the whole new one."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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


def write_json(path: str | Path, content: object) -> None:
    """Write `content` to `path` as indented JSON, atomically."""
    write_bytes(path, (json.dumps(content, indent=2) + '\n').encode())
