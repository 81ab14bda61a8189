"""Samples in tar shards, as the WebDataset library reads them, with random access for ours.

A sample is a run of members of one key: ``00000012.jpg`` (image), ``.depth.png`` (dense depth),
``.sparse.png`` (the sensor's, if it was cast at generation) and ``.json``, always the last. Beside
``shard-000000.tar`` lies ``shard-000000.json``: where each member lies in the tar, and the
images that were rejected. While a shard is written it ends in ``.partial``; what a killed run
left there is taken up after its last whole sample.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.io.atomic import write_bytes

_BLOCK = tarfile.BLOCKSIZE
_LAST = 'json'
_MEMBERS = ('jpg', 'depth.png', 'sparse.png', _LAST)
_ABSENT = (0, 0)
# Depth is stored as 16-bit logarithm: the relative error is below 1e-4 at every distance.
_NEAREST, _FARTHEST, _STEPS = 0.05, 1000.0, 65534


class StoredSample(NamedTuple):
    """rgb (H, W, 3) uint8; depth and sparse (H, W) float32, m, 0 = unknown (sparse None where it
    was left to be cast while loading); K (3, 3), pixels; meta: what else is known."""

    rgb: np.ndarray
    depth: np.ndarray
    sparse: np.ndarray | None
    K: np.ndarray
    meta: dict


def encode_depth(depth: np.ndarray) -> bytes:
    """16-bit PNG of depth (H, W), m, 0 = unknown; clipped to 0.05 ... 1000 m."""
    known = depth > 0
    code = np.zeros(depth.shape, np.uint16)
    share = np.log(np.clip(depth[known], _NEAREST, _FARTHEST) / _NEAREST)
    code[known] = np.rint(share / np.log(_FARTHEST / _NEAREST) * _STEPS) + 1
    # Level 1: a tenth more bytes than level 3, in two thirds of the time.
    return cv2.imencode('.png', code, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


_DECODED = np.r_[0, _NEAREST * (_FARTHEST / _NEAREST) ** (np.arange(_STEPS + 1) / _STEPS)].astype(
    np.float32
)


def decode_depth(png: bytes) -> np.ndarray:
    """Depth (H, W) float32, m, 0 = unknown, of encode_depth's PNG."""
    code = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if code is None or code.dtype != np.uint16 or code.ndim != 2:
        raise ValueError('depth: expected a 16-bit grey PNG')
    return _DECODED[code]


def encode_sample(sample: StoredSample, jpeg_quality: int = 95) -> dict[str, bytes]:
    """Members of a sample by suffix, in the order of the tar."""
    bgr = cv2.cvtColor(sample.rgb, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])[1]
    members = {'jpg': jpeg.tobytes(), 'depth.png': encode_depth(sample.depth)}
    if sample.sparse is not None:
        members['sparse.png'] = encode_depth(sample.sparse)
    meta = {**sample.meta, 'K': np.asarray(sample.K, float).tolist()}
    return {**members, _LAST: json.dumps(meta, sort_keys=True).encode()}


def decode_sample(members: Mapping[str, bytes]) -> StoredSample:
    """Inverse of encode_sample. Raises ValueError, or KeyError for a member that is missing."""
    bgr = cv2.imdecode(np.frombuffer(members['jpg'], np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError('image: expected a JPEG')
    meta = json.loads(members[_LAST])
    sparse = members.get('sparse.png')
    return StoredSample(
        cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB),
        decode_depth(members['depth.png']),
        None if sparse is None else decode_depth(sparse),
        np.array(meta.pop('K')),
        meta,
    )


def shard_path(folder: str | Path, number: int) -> Path:
    """The finished shard of that number."""
    return Path(folder) / f'shard-{number:06d}.tar'


class ShardWriter:
    """Writes one shard, taking up what a killed run left of it.

    ``keys`` are the samples that are already there. ``finish`` gives the shard its name. The same
    samples in the same order give the same bytes, however often the writing was interrupted.
    """

    def __init__(self, folder: str | Path, number: int) -> None:
        self._path = shard_path(folder, number)
        self._partial = self._path.with_suffix('.partial')
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        self._partial.touch()
        self._index, end = _scan(self._partial)
        self._file = self._partial.open('r+b')
        self._file.truncate(end)
        self._file.seek(end)
        self._tar = tarfile.TarFile(fileobj=self._file, mode='w', format=tarfile.USTAR_FORMAT)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        # Without finish() nothing more is written: the next run scans what is there.
        self._file.close()

    @property
    def keys(self) -> set[str]:
        """Keys of the samples in the shard."""
        return set(self._index)

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append a sample. Raises ValueError unless its last member is the .json one."""
        if next(reversed(members), None) != _LAST:
            raise ValueError(f'{key}: expected .{_LAST} as the last member, got {list(members)}')
        places = {}
        for suffix, data in members.items():
            # Only name and size are set: times and owners would differ from run to run.
            info = tarfile.TarInfo(f'{key}.{suffix}')
            info.size = len(data)
            places[suffix] = (self._tar.offset + _BLOCK, len(data))
            self._tar.addfile(info, io.BytesIO(data))
        self._file.flush()
        self._index[key] = places

    def finish(self, rejected: Mapping[str, str]) -> None:
        """Close the shard; rejected: name of each image left out, and why."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        index = {'samples': self._index, 'rejected': dict(sorted(rejected.items()))}
        write_bytes(self._path.with_suffix('.json'), json.dumps(index, indent=0).encode())
        self._partial.replace(self._path)


def _scan(path: Path) -> tuple[dict[str, dict[str, tuple[int, int]]], int]:
    """Whole samples of a tar that may end anywhere, and the offset behind the last of them."""
    index: dict[str, dict[str, tuple[int, int]]] = {}
    places: dict[str, tuple[int, int]] = {}
    end, size = 0, path.stat().st_size
    try:
        with tarfile.open(path, 'r:') as tar:
            for info in tar:
                behind = info.offset_data + -(-info.size // _BLOCK) * _BLOCK
                if behind > size:
                    break
                key, suffix = info.name.split('.', 1)
                places[suffix] = (info.offset_data, info.size)
                if suffix == _LAST:
                    index[key], places, end = places, {}, behind
    except tarfile.TarError:
        pass  # an empty file, or a header that was cut: everything before it counts
    return index, end


def _read_index(path: Path) -> dict[str, dict[str, list[int]]]:
    """Where the members of each sample lie, by key. Raises FileNotFoundError, ValueError."""
    try:
        return json.loads(path.read_text())['samples']
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path}: expected the index of a shard') from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path}: expected the index of a shard: {error}') from error


class ShardReader:
    """Samples of a folder of finished shards, by number, in any order and from any process.

    Raises FileNotFoundError where the folder holds no finished shard with a sample.
    """

    def __init__(self, folder: str | Path) -> None:
        self._paths = sorted(Path(folder).glob('shard-*.tar'))
        # Arrays, not objects: of 360,000 samples these would take 300 MB, and in every worker of a
        # loader anew, since counting references copies the pages that a fork shares.
        shards, keys, places = [], [], []
        for number, path in enumerate(self._paths):
            samples = _read_index(path.with_suffix('.json'))
            if samples:
                shards.append(np.full(len(samples), number, np.int32))
                keys.append(np.array(list(samples)))
                rows = [[s.get(name, _ABSENT) for name in _MEMBERS] for s in samples.values()]
                places.append(np.array(rows, np.int64))
        if not shards:
            raise FileNotFoundError(
                f'{folder}: expected finished shards (shard-000000.tar and .json); make them with '
                'python -m training.generate'
            )
        self._shards, self._keys, self._places = map(np.concatenate, (shards, keys, places))

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> StoredSample:
        """Raises OSError or ValueError, naming shard and sample."""
        path, key = self._paths[self._shards[index]], self._keys[index]
        try:
            with path.open('rb') as file:
                members = {}
                for suffix, (offset, size) in zip(_MEMBERS, self._places[index], strict=True):
                    if size:
                        file.seek(offset)
                        members[suffix] = data = file.read(size)
                        if len(data) < size:
                            raise ValueError(f'the file ends within its .{suffix}')
            return decode_sample(members)
        except (ValueError, KeyError, cv2.error) as error:
            raise ValueError(f'{path}: cannot read sample {key}: {error}') from error
