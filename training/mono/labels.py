"""What teachers say of images, kept in shards: ``python -m training.mono.labels --config FILE``.

Worth it where the parts of images repeat (``data.crop.repeated``): a teacher is slower than the
student, and says the same each time. The configuration is that of the training, which then reads
``data.labels`` in place of the images. A sample is one part of an image; a run that was killed
goes on after the last one that it wrote.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.progress import track

from dmd3c_ros.io.atomic import write_bytes
from training.command_line import run_command
from training.generation.shards import ShardWriter, shard_path
from training.generation.sources import BadImageError, Source, SourceImage
from training.generation.teacher import Teacher

from .crops import CropConfig, Part, cut, open_images
from .losses import Window, overlapping_windows
from .settings import MonoConfig

log = logging.getLogger(__name__)

_LEVELS = 65534  # of the 16-bit codes; 0 stands for unknown
_PER_SHARD = 1000
_CLAIM = 'labels.json'


class Labelled(NamedTuple):
    """part: of the image. maps: relative inverse depth (h, w) float32 of each teacher, NaN =
    unknown; patches: of each teacher, of each window of the part."""

    part: Part
    maps: list[np.ndarray]
    patches: list[list[np.ndarray]]


def inverse_depth(depth: np.ndarray) -> np.ndarray:
    """Exact relative inverse depth of exact depth (m, 0 = sky, which is infinitely far)."""
    return np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 0).astype(np.float32)


def say(teacher: Teacher, images: Sequence[SourceImage]) -> list[np.ndarray]:
    """Relative inverse depth of images at the teacher's own resolution; of metric ones too."""
    return [
        inverse_depth(np.nan_to_num(p.values)) if p.metric else p.values
        for p in teacher.predict(images)
    ]


class LabelShards:
    """Samples that ``make_labels`` wrote, by number, from any process.

    Raises FileNotFoundError where the folder holds none.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._places: list[tuple[Path, str, dict[str, tuple[int, int]]]] = []
        for path in sorted(self._root.glob('shard-*.tar')):
            samples = json.loads(path.with_suffix('.json').read_text())['samples']
            self._places += [(path, key, places) for key, places in samples.items()]
        if not self._places:
            raise FileNotFoundError(
                f'{root}: expected shards of labels; make them with python -m training.mono.labels'
            )
        self.claim: dict = json.loads((self._root / _CLAIM).read_text())

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Labelled:
        """Raises OSError or ValueError, naming shard and sample."""
        path, key, places = self._places[index]
        try:
            with path.open('rb') as file:
                members = {}
                for suffix, (offset, size) in places.items():
                    file.seek(offset)
                    members[suffix] = file.read(size)
            return _decode(members)
        except (ValueError, KeyError, cv2.error) as error:
            raise ValueError(f'{path}: sample {key} does not read: {error}') from error


def make_labels(config: MonoConfig, out: str | Path) -> int:
    """Write the labels of every part of every image; returns how many there are.

    Raises ValueError for a folder of other images, parts or teachers.
    """
    crop = config.data.crop
    if not crop.repeated:
        raise ValueError('data.crop.repeated: expected 1 or more parts of each image, got 0')
    source = open_images(config.data.sources, config.data.scenes, config.seed)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    teachers = [teacher.open() for teacher in config.teachers]
    _claim(out, config, teachers)
    total = len(source) * crop.repeated
    done = 0
    for shard, first in enumerate(range(0, total, _PER_SHARD)):
        numbers = range(first, min(first + _PER_SHARD, total))
        if not shard_path(out, shard).exists():
            _write(out, shard, numbers, source, config, teachers)
        done += len(json.loads((out / f'shard-{shard:06d}.json').read_text())['samples'])
    log.info('%d parts of %d images in %s', done, len(source), out)
    return done


def _write(
    out: Path,
    shard: int,
    numbers: range,
    source: Source,
    config: MonoConfig,
    teachers: Sequence[Teacher],
) -> None:
    rejected: dict[str, str] = {}
    with ShardWriter(out, shard) as writer:
        done = writer.keys
        for number in track(numbers, f'shard {shard}'):
            key = f'{number:09d}'
            if key in done:
                continue
            index = number // config.data.crop.repeated
            try:
                image = source.read(index)
            except BadImageError as error:
                rejected[source.name(index)] = str(error)
                continue
            part = repeated_part(image, config, number)
            writer.add(key, _encode(_labelled(part, config, teachers)))
        writer.finish(rejected)


def repeated_part(image: SourceImage, config: MonoConfig, number: int) -> Part:
    """The part of that number, of those that repeat."""
    return cut(image, config.data.crop, np.random.default_rng([config.seed, 11, number]))


def windows(crop: CropConfig, config: MonoConfig) -> list[Window]:
    """Where the teachers look in local-global distillation, in pixels of the student's input."""
    c = config.loss
    return overlapping_windows(
        crop.height, crop.width, c.patch_rows, c.patch_columns, c.patch_overlap
    )


def _labelled(part: Part, config: MonoConfig, teachers: Sequence[Teacher]) -> Labelled:
    images = [SourceImage('part', part.rgb, part.depth, part.K)]
    if config.loss.local_global:
        for window in windows(config.data.crop, config):
            rows, columns = (
                slice(*(round(n * config.data.crop.detail) for n in (s.start, s.stop)))
                for s in window.slices
            )
            depth = None if part.depth is None else part.depth[window.slices]
            images.append(
                SourceImage('patch', np.ascontiguousarray(part.large[rows, columns]), depth)
            )
    said = [say(teacher, images) for teacher in teachers]
    return Labelled(part, [s[0] for s in said], [s[1:] for s in said])


def _claim(out: Path, config: MonoConfig, teachers: Sequence[Teacher]) -> None:
    """Note in the folder whose words it holds, or compare."""
    content = {
        'seed': config.seed,
        'data': {**config.content()['data'], 'labels': '', 'held_out': 0},
        'patches': [config.loss.patch_rows, config.loss.patch_columns, config.loss.patch_overlap]
        if config.loss.local_global
        else [],
        'teachers': [teacher.identity for teacher in teachers],
    }
    content = json.loads(json.dumps(content))
    path = out / _CLAIM
    if not path.exists():
        write_bytes(path, json.dumps(content, indent=2).encode())
        return
    old = json.loads(path.read_text())
    differing = [key for key in content if content[key] != old.get(key)]
    if differing:
        raise ValueError(
            f'{out} holds labels of other {", ".join(differing)} (see {path}); use another folder'
        )


def _encode(sample: Labelled) -> dict[str, bytes]:
    part = sample.part
    members = {'jpg': _jpeg(part.rgb)}
    if part.large is not part.rgb:
        members['large.jpg'] = _jpeg(part.large)
    ranges = {}
    if part.depth is not None:
        ranges['depth'], members['depth.png'] = _encode_map(inverse_depth(part.depth))
    for number, values in enumerate(sample.maps):
        ranges[f'{number}'], members[f'{number}.png'] = _encode_map(values)
        for place, patch in enumerate(sample.patches[number]):
            name = f'{number}.{place}'
            ranges[name], members[f'{name}.png'] = _encode_map(patch)
    meta = {'K': part.K.tolist(), 'ranges': ranges}
    return {**members, 'json': json.dumps(meta, sort_keys=True).encode()}


def _decode(members: dict[str, bytes]) -> Labelled:
    meta = json.loads(members['json'])

    def values(name: str) -> np.ndarray:
        return _decode_map(members[f'{name}.png'], *meta['ranges'][name])

    rgb = _read_jpeg(members['jpg'])
    large = _read_jpeg(members['large.jpg']) if 'large.jpg' in members else rgb
    depth = None
    if 'depth' in meta['ranges']:
        inverse = values('depth')
        depth = np.where(inverse > 0, 1 / np.maximum(inverse, 1e-6), 0).astype(np.float32)
    maps, patches = [], []
    while str(len(maps)) in meta['ranges']:
        number = len(maps)
        maps.append(values(str(number)))
        patches.append([])
        while f'{number}.{len(patches[-1])}' in meta['ranges']:
            patches[-1].append(values(f'{number}.{len(patches[-1])}'))
    return Labelled(Part(rgb, large, depth, np.array(meta['K'])), maps, patches)


def _encode_map(values: np.ndarray) -> tuple[tuple[float, float], bytes]:
    """(smallest, step) and a 16-bit PNG of (h, w); the error is half a step of 65,534."""
    known = np.isfinite(values)
    low = float(values[known].min()) if known.any() else 0.0
    high = float(values[known].max()) if known.any() else 0.0
    step = (high - low) / _LEVELS or 1.0
    code = np.where(known, np.rint((np.where(known, values, low) - low) / step) + 1, 0)
    png = cv2.imencode('.png', code.astype(np.uint16), [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    return (low, step), png.tobytes()


def _decode_map(png: bytes, low: float, step: float) -> np.ndarray:
    code = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if code is None or code.dtype != np.uint16:
        raise ValueError('expected a 16-bit PNG')
    return np.where(code > 0, low + (code - 1.0) * step, np.nan).astype(np.float32)


def _jpeg(rgb: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _read_jpeg(data: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError('expected a JPEG')
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""

    def act(config: MonoConfig) -> int:
        if not config.data.labels:
            raise ValueError('data.labels: expected the folder of the labels, got none')
        return make_labels(config, config.data.labels)

    run_command('mono.labels', MonoConfig, act, arguments, __doc__)


if __name__ == '__main__':
    main()
