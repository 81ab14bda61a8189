"""Downloading a released checkpoint: resumable, checked before it takes its name."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from .checkpoint import CheckpointError, misfits, read_checkpoint
from .releases import Release, meta_network, weights_path

_log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where known

_CHUNK = 1 << 18
_TIMEOUT_S = 30
_SUFFIXES = ('.pth', '.pt')
# Some hosts refuse the name that urllib gives itself.
_AGENT = 'dmd3c_ros'


class DownloadError(OSError):
    """A file could not be fetched; the message says why and what to do by hand."""


def get(item: Release, folder: Path | None = None, on_progress: Progress | None = None) -> Path:
    """Return the path of a release, after downloading it if necessary, and check it.

    An interrupted download is resumed. The file gets its name only once it is known to contain
    the network's parameters; a .sha256 file is written next to it, which later calls compare
    with. Raises DownloadError, or CheckpointError for an unexpected file; an existing file is
    kept.
    """
    path = weights_path(item, folder)
    if path.is_file():
        check(path, item)
        return path
    if not item.url:
        raise DownloadError(f'{item.name} can only be fetched by hand: {by_hand(item, folder)}')
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.part')
    try:
        _download(item.url, part, on_progress or (lambda done, total: None))
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        host = urlsplit(item.url).netloc
        reason = getattr(error, 'reason', None) or error
        raise DownloadError(
            f'{host}: {reason}. Without a connection: {by_hand(item, folder)}'
        ) from error
    try:
        _unpack(part)
        check(part, item)
    except CheckpointError:
        part.unlink()
        raise
    part.replace(path)
    _record(path).write_text(f'{sha256(path)}  {path.name}\n')
    return path


def by_hand(item: Release, folder: Path | None = None) -> str:
    """How to fetch a release without this program."""
    return (
        f'get it from {item.page} and put it at {weights_path(item, folder)}; '
        f'`dmd3c weights get {item.name}` then checks it'
    )


def check(path: Path, item: Release) -> None:
    """Raise CheckpointError unless a file is the given release.

    Compares the checksum with the published one, or else with the one recorded at download, and
    the names and shapes of the parameters.
    """
    record = _record(path)
    expected = item.sha256 or (record.read_text().split()[0] if record.is_file() else '')
    found = sha256(path) if expected else ''
    if found != expected:
        raise CheckpointError(
            f'{path}: expected the checksum {expected}, got {found}; delete it and fetch it again'
        )
    state = read_checkpoint(path).state
    faults = misfits(meta_network(item.network).state_dict(), state)
    if faults:
        raise CheckpointError(f'{path} is not of {item.network}: ' + '; '.join(faults))


def sha256(path: Path) -> str:
    """Checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _record(path: Path) -> Path:
    return path.with_name(f'{path.name}.sha256')


def _download(url: str, part: Path, on_progress: Progress) -> None:
    """Fetch a file into ``part``, from where an earlier attempt ended if the file is the same."""
    version = part.with_name(f'{part.name}.version')
    with part.open('ab') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f'{part} is being written by another process') from error
        with _open(url, file.tell(), version) as response:
            _receive(response, file, version, on_progress)
    version.unlink(missing_ok=True)


def _open(url: str, done: int, version: Path) -> HTTPResponse:
    """Request the rest of a file; all of it if its version is not known."""
    headers = {'User-Agent': _AGENT}
    if done and version.is_file():
        # Answered with the whole file if it has changed since.
        headers |= {'Range': f'bytes={done}-', 'If-Range': version.read_text()}
    try:
        return urlopen(Request(url, headers=headers), timeout=_TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:
            raise
        # The partial file is complete or outdated: download all of it again.
        version.unlink()
        return _open(url, 0, version)


def _receive(response: HTTPResponse, file: BinaryIO, version: Path, on_progress: Progress) -> None:
    if response.headers.get_content_type() == 'text/html':
        raise DownloadError(
            f'{response.url}: expected a file, got a web page; the host may limit downloads, try '
            'again later or use a browser'
        )
    if response.status != 206:
        file.truncate(0)
        validator = response.headers.get('ETag') or response.headers.get('Last-Modified')
        if validator and not validator.startswith('W/'):
            version.write_text(validator)
    done = file.seek(0, 2)
    length = response.headers.get('Content-Length')
    total = None if length is None else done + int(length)
    with suppress(IncompleteRead):  # reported below
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            on_progress(done, total)
    if total is not None and done < total:
        raise DownloadError(
            f'{response.url}: the connection ended after {done} of {total} bytes; run the '
            'command again to resume'
        )


def _unpack(path: Path) -> None:
    """Replace an archive by the single checkpoint in it; leave any other file unchanged."""
    unpacked = path.with_name(f'{path.name}.unpacked')
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            member = _only_checkpoint(archive.namelist(), path)
            if member is None:
                return
            with archive.open(member) as source, unpacked.open('wb') as target:
                shutil.copyfileobj(source, target)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            names = [info.name for info in archive if info.isfile()]
            member = _only_checkpoint(names, path)
            if member is None:
                return
            with archive.extractfile(member) as source, unpacked.open('wb') as target:
                shutil.copyfileobj(source, target)
    else:
        return
    _log.info('extracted %s from the archive', member)
    unpacked.replace(path)


def _only_checkpoint(names: list[str], path: Path) -> str | None:
    """The checkpoint in an archive; None if there is none: PyTorch's own files are zip too."""
    found = [name for name in names if name.endswith(_SUFFIXES)]
    if len(found) > 1:
        raise CheckpointError(f'{path}: expected one checkpoint, got {", ".join(found)}')
    return found[0] if found else None
