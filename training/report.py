"""One page about a run: ``python -m training.report RUN [--out FILE]``.

Curves of the losses and of the validation, its images, the settings and the command, in one
self-contained HTML file, ``RUN/report.html`` by default. A run in progress can be reported at any
time.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmd3c_ros.io.atomic import write_bytes
from training.command_line import short_errors

log = logging.getLogger(__name__)

Curve = list[tuple[int, float]]
_MANY = 30
_UNITS = {'_mm': 'mm', '_per_km': '1/km'}

_PAGE = """<!doctype html>
<meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px sans-serif; max-width: 1100px; margin: 2em auto }}
img {{ max-width: 100% }} td, th {{ padding: 2px 12px; text-align: right }}
pre {{ background: #f2f2f2; padding: 1em; overflow: auto }}</style>
<h1>{title}</h1>
{body}
"""


def write_report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the page; returns its file. Raises FileNotFoundError if the folder is not a run."""
    run = Path(run)
    files = sorted((run / 'tensorboard').glob('events*'), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f'{run}: expected a run, with its log in {run / "tensorboard"}')
    curves, images = _read(files)
    parts = [_table(curves), *_plots(curves), *_images(images)]
    settings = run / 'settings.yaml'
    if settings.is_file():
        parts.append(
            f'<h2>Command and settings</h2><pre>{html.escape(settings.read_text())}</pre>'
        )
    path = Path(out) if out else run / 'report.html'
    title = html.escape(f'{run.resolve().name}')
    write_bytes(path, _PAGE.format(title=title, body='\n'.join(parts)).encode())
    log.info('%s', path)
    return path


def _read(files: Sequence[Path]) -> tuple[dict[str, Curve], dict[str, tuple[int, bytes]]]:
    """Curves by name, and the last image of each name with its iteration.

    Each start of a run writes a separate file; for each iteration the latest one counts.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values: dict[str, dict[int, float]] = defaultdict(dict)
    images: dict[str, tuple[int, bytes]] = {}
    for file in files:
        events = EventAccumulator(str(file), size_guidance={'scalars': 0, 'images': 1}).Reload()
        tags: dict[str, Any] = events.Tags()
        for name in tags['scalars']:
            # Lightning counts from 0: what it calls step 99 ends the hundredth iteration.
            values[name] |= {event.step + 1: event.value for event in events.Scalars(name)}
        for name in tags['images']:
            last = events.Images(name)[-1]
            images[name] = last.step, last.encoded_image_string
    curves = {name: sorted(points.items()) for name, points in sorted(values.items())}
    return {name: points for name, points in curves.items() if name != 'epoch'}, images


def _table(curves: dict[str, Curve]) -> str:
    rows = []
    for name, points in curves.items():
        if name.startswith('validation/'):
            step, best = min(points, key=lambda point: point[1])
            last = points[-1]
            rows.append(
                f'<tr><th>{name.split("/")[1]}</th><td>{last[1]:.4g}</td><td>{last[0]}</td>'
                f'<td>{best:.4g}</td><td>{step}</td></tr>'
            )
    if not rows:
        return '<p>Not validated yet.</p>'
    head = '<tr><th></th><th>last</th><th>iteration</th><th>lowest</th><th>iteration</th></tr>'
    return f'<h2>Validation</h2><table>{head}{"".join(rows)}</table>'


def _plots(curves: dict[str, Curve]) -> list[str]:
    """One figure for the losses, one for the learning rate, one for each unit of the scores."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in curves:
        kind, _, label = name.partition('/')
        if label == 'learning_rate':
            groups['Learning rate'].append(name)
        elif kind == 'train':
            groups['Losses'].append(name)
        elif kind == 'validation':
            unit = next((u for end, u in _UNITS.items() if label.endswith(end)), 'relative')
            groups[f'Validation, {unit}'].append(name)
    return [
        f'<h2>{html.escape(title)}</h2>{_image(_plot({n: curves[n] for n in names}))}'
        for title, names in groups.items()
    ]


def _plot(curves: dict[str, Curve]) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(10, 4), layout='constrained')
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(curves.items()):
        steps, values = zip(*points, strict=True)
        style = {'color': f'C{number}', 'label': name.split('/')[1]}
        if len(points) < _MANY or name.endswith('learning_rate'):
            axes.plot(steps, values, marker='.' if len(points) < _MANY else '', **style)
        else:
            # A loss is that of one batch: the mean of a tenth of the run shows where it goes.
            axes.plot(steps, values, color=style['color'], alpha=0.25, linewidth=0.8)
            window = np.ones(len(points) // 10) / (len(points) // 10)
            middle = len(window) // 2
            means = np.convolve(values, window, 'valid')
            axes.plot(steps[middle : middle + len(means)], means, **style)
    values = [value for points in curves.values() for _, value in points]
    if 0 < 10 * min(values) < max(values) < 1e4 * min(values):
        axes.set_yscale('log', subs=())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter('{x:.4g}')
    axes.set_xlabel('iteration')
    axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=110)
    return file.getvalue()


def _images(images: dict[str, tuple[int, bytes]]) -> list[str]:
    if not images:
        return []
    parts = ['<h2>Input, prediction, ground truth and error</h2>']
    for name, (step, content) in sorted(images.items()):
        parts.append(f'<p>{html.escape(name)}, iteration {step}</p>{_image(content)}')
    return parts


def _image(png: bytes) -> str:
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m training.report', description=__doc__)
    parser.add_argument('run', help='folder of a run')
    parser.add_argument('--out', help='file to write, RUN/report.html by default')
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    with short_errors('report'):
        write_report(args.run, args.out)


if __name__ == '__main__':
    main()
