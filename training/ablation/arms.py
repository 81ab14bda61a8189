"""A comparison: every arm trained and scored with every seed, and its table."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from dmd3c_ros.io.atomic import write_bytes

log = logging.getLogger(__name__)

Results = dict[str, dict[str, list[float]]]
"""Arm to score to one value a seed."""


def compare(
    out: Path,
    arms: Sequence[str],
    seeds: Sequence[int],
    settings: Callable[[str, int], dict],
    scores: Callable[[str, int], dict[str, float]],
    content: dict,
) -> Results:
    """Score every arm with every seed; writes results.json below ``out`` after each run.

    settings: of the run of an arm and a seed. Its scores are kept beside it, and serve again
    where the settings are the same. scores: trains that run, or goes on with it, and scores it.
    content: what results.json holds of the comparison itself.
    """
    results: Results = {arm: {} for arm in arms}
    for seed in seeds:
        for arm in arms:
            kept = run_folder(out, arm, seed) / 'scores.json'
            # As JSON reads it back: a tuple is a list there.
            asked = json.loads(json.dumps(settings(arm, seed)))
            found = _read(kept, asked)
            if found is None:
                found = scores(arm, seed)
                write_bytes(kept, _json({'settings': asked, 'scores': found}))
            log.info('%s, seed %d: %s', arm, seed, found)
            for name, value in found.items():
                results[arm].setdefault(name, []).append(value)
            write_bytes(out / 'results.json', _json({'config': content, 'results': results}))
    return results


def run_folder(out: Path, arm: str, seed: int) -> Path:
    """Folder of one run."""
    return out / 'runs' / f'{arm}_{seed}'


def table(results: Results, digits: Mapping[str, int]) -> Table:
    """Mean and standard deviation over the seeds of the scores in digits, which says how many
    digits behind the point they have."""
    shown = Table('arm', *digits)
    for arm, row in results.items():
        cells = []
        for name, places in digits.items():
            values = np.array(row[name])
            spread = f' ± {values.std(ddof=1):.{places}f}' if len(values) > 1 else ''
            cells.append(f'{values.mean():.{places}f}{spread}')
        shown.add_row(arm, *cells)
    return shown


def _read(path: Path, settings: dict) -> dict[str, float] | None:
    """Scores of a run with these settings, where they are on disk."""
    if not path.is_file():
        return None
    before = json.loads(path.read_text())
    return before['scores'] if before['settings'] == settings else None


def _json(content: dict) -> bytes:
    return json.dumps(content, indent=1).encode()
