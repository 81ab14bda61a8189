"""Generate training data from unlabelled images: ``python -m training.generate --config FILE``.

Images are read and simulated by processes (or Ray tasks), the teacher runs apart from them, and
this process writes their results in order, into shards. A sample depends on the seed and its
number alone. An interrupted run resumes after the last sample that it wrote.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dmd3c_ros.io.atomic import write_bytes
from training.command_line import add_settings, short_errors
from training.generation.backends import in_order, open_stages
from training.generation.maker import SAMPLES_VERSION, Batch, GenerateConfig, Rejected
from training.generation.shards import ShardWriter, shard_path
from training.generation.sources import Mixture, open_source
from training.settings import load

log = logging.getLogger(__name__)

_VERSION = 'samples_version'


class Summary(NamedTuple):
    """Samples written by this run, images rejected, and samples in all shards."""

    written: int
    rejected: int
    total: int


class _Shard(NamedTuple):
    """The remaining work for a shard."""

    number: int
    batches: list[Batch]


def generate(config: GenerateConfig) -> Summary:
    """Generate all missing shards.

    Raises ValueError if the folder holds shards of another configuration or of an earlier version
    of this command, FileNotFoundError for missing sources.
    """
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        _claim(out, config)
        source = Mixture([open_source(s) for s in config.sources], config.seed)
        todo = [
            _remaining(
                out, number, range(first, min(first + config.shard_size, len(source))), config
            )
            for number, first in enumerate(range(0, len(source), config.shard_size))
            if not shard_path(out, number).exists()
        ]
        with open_stages(config) as stages, _progress(len(source), todo) as advance:
            results = in_order(
                stages.make, (batch for shard in todo for batch in shard.batches), stages.window
            )
            written, rejected = 0, 0
            for shard in todo:
                counts = _write(out, shard, results, source, advance)
                written, rejected = written + counts[0], rejected + counts[1]
    summary = Summary(written, rejected, _count(out))
    log.info('%d samples written, %d images rejected, %d samples in %s', *summary, out)
    return summary


def _remaining(out: Path, number: int, indices: range, config: GenerateConfig) -> _Shard:
    with ShardWriter(out, number) as writer:
        done = writer.keys
    batches = []
    for first in range(0, len(indices), config.batch):
        # Whole batches, although some of it may be done: what a teacher says of an image depends,
        # in the last digits, on those beside it.
        together = tuple(indices[first : first + config.batch])
        wanted = tuple(index for index in together if _key(index) not in done)
        if wanted:
            batches.append(Batch(together, wanted))
    return _Shard(number, batches)


def _write(
    out: Path,
    shard: _Shard,
    results: Iterator[list[dict[str, bytes] | Rejected]],
    source: Mixture,
    advance: Callable[[int], None],
) -> tuple[int, int]:
    """Write one shard; returns how many samples were written and images rejected."""
    rejected: dict[str, str] = {}
    written = 0
    with ShardWriter(out, shard.number) as writer:
        for batch in shard.batches:
            for index, result in zip(batch.wanted, next(results), strict=True):
                if isinstance(result, Rejected):
                    rejected[source.name(index)] = result.reason
                    log.warning('%s: skipped: %s', source.name(index), result.reason)
                else:
                    writer.add(_key(index), result)
                    written += 1
            advance(len(batch.wanted))
        writer.finish(rejected)
    return written, len(rejected)


def _key(index: int) -> str:
    return f'{index:09d}'


def _count(out: Path) -> int:
    return sum(len(json.loads(p.read_text())['samples']) for p in out.glob('shard-*.json'))


def _claim(out: Path, config: GenerateConfig) -> None:
    """Save the configuration in the folder, or compare it with the saved one."""
    path, content = out / 'config.json', json.loads(json.dumps(config.content()))
    if not path.exists():
        noted = {_VERSION: SAMPLES_VERSION, **content}
        write_bytes(path, json.dumps(noted, indent=2).encode())
        return
    old = json.loads(path.read_text())
    version = old.get(_VERSION, 1)
    if version != SAMPLES_VERSION:
        raise ValueError(
            f'{out} holds samples of version {version} (see {path}), and this release makes those '
            f'of version {SAMPLES_VERSION}, which differ; use another folder'
        )
    differing = [key for key in content if content[key] != old.get(key)]
    if differing:
        raise ValueError(
            f'{out} holds shards made with other settings of {", ".join(differing)} '
            f'(see {path}); use another folder'
        )


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keep a second run away from the folder; a killed run leaves no lock behind."""
    with (out / '.lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f'{out}: another run is writing here') from error
        yield


@contextmanager
def _progress(total: int, todo: Sequence[_Shard]) -> Iterator[Callable[[int], None]]:
    left = sum(len(batch.wanted) for shard in todo for batch in shard.batches)
    columns = (TextColumn('samples'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task('samples', total=total, completed=total - left)
        yield lambda count: progress.advance(task, count)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m training.generate', description=__doc__)
    add_settings(parser, GenerateConfig)
    parser.add_argument('--preview', metavar='DIR', help='write preview images instead of shards')
    parser.add_argument('--count', type=int, default=8, help='number of previews')
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    with short_errors('generate'):
        config = load(GenerateConfig, args.config, args.set)
        if args.preview:
            from training.generation.preview import write_previews

            write_previews(config, args.preview, args.count)
        else:
            generate(config)


if __name__ == '__main__':
    main()
