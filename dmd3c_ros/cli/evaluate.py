"""`dmd3c evaluate`: errors of models on the field's data sets, and on one's own recordings."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from .options import (
    Device,
    Model,
    Precision,
    Weights,
    given,
    make_completer,
    memory_explained,
    with_out,
)

if TYPE_CHECKING:
    import numpy as np

    from dmd3c_ros.datasets import DepthDataset, Sample
    from dmd3c_ros.evaluation.protocols import Evaluation, FrameResult, Predictor, Scoring
    from dmd3c_ros.evaluation.sets import Reliability

_DATA = 'Data'
_SCORE = 'Scoring'
_TEST_SET = 'kitti-test'
_SETS = 'folder'


@with_out('Folder for the results.')
@memory_explained()
def evaluate(
    dataset: Annotated[
        str,
        typer.Option(
            help='kitti-selection, kitti-val, nyu, void, scannet, ddad, dcverse; folder for '
            'your own sets SET/{image,sparse,truth}/NAME.png with K/NAME.txt, compared with the '
            'classical methods and a grey image; or rings, without ground truth, for a KITTI '
            'raw drive or your own folder of image/NAME.png, sparse/NAME.png (16-bit, 256 per '
            'metre), and K.txt or intrinsics/NAME.txt.',
            rich_help_panel=_DATA,
        ),
    ],
    root: Annotated[Path, typer.Option(help='Folder of the data set.', rich_help_panel=_DATA)],
    out: Path = Path('evaluation'),
    model: Model = None,
    weights: Weights = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            show_default='none',
            help='Another model in addition to --model, as NAME or NAME=CHECKPOINT; may be '
            'repeated. The classical ones are interpolation, ip_basic and nearest.',
            rich_help_panel='Completion',
        ),
    ] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            show_default='none',
            help='Score this folder of 16-bit images (x256) named like the frames; may be '
            'repeated.',
            rich_help_panel='Completion',
        ),
    ] = None,
    device: Device = None,
    precision: Precision = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            show_default='none',
            help="Instead, write the images of KITTI's anonymous test set to this folder.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default='all',
            help='Number of frames, spread over the data set.',
            rich_help_panel=_DATA,
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default='500 (nyu, scannet), 1500 (void)',
            help='Input points (nyu, scannet, void).',
            rich_help_panel=_DATA,
        ),
    ] = None,
    hide: Annotated[
        float | None,
        typer.Option(
            show_default='every second ring',
            help='rings: hold out this random fraction of the points instead of every second '
            'ring.',
            rich_help_panel=_DATA,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, show_default='0', help='Random seed of the inputs.', rich_help_panel=_DATA
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            '--allow-pickle',
            help='Open pickled bundles (dcverse); a pickle can run code.',
            rich_help_panel=_DATA,
        ),
    ] = False,
    lines: Annotated[
        str | None,
        typer.Option(
            show_default='all',
            help='Evaluate with these numbers of LiDAR lines, such as 64,32,16,8.',
            rich_help_panel=_SCORE,
        ),
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default='all',
            help='Use only this many rows from the bottom; 256 for the crop of BP-Net and DMD3C.',
            rich_help_panel=_SCORE,
        ),
    ] = None,
    min_depth: Annotated[
        float | None,
        typer.Option(
            show_default="the data set's protocol",
            help='Minimum ground-truth depth, m.',
            rich_help_panel=_SCORE,
        ),
    ] = None,
    max_depth: Annotated[
        float | None,
        typer.Option(
            show_default="the data set's protocol",
            help='Maximum ground-truth depth, m.',
            rich_help_panel=_SCORE,
        ),
    ] = None,
    error_maps: Annotated[
        bool, typer.Option('--error-maps', help='Write an error map for every frame.')
    ] = False,
    worst: Annotated[
        int, typer.Option(min=0, help='Number of frames on the sheet of the worst ones.')
    ] = 6,
) -> None:
    """Score models as the benchmarks do; prints tables and writes everything else to OUT."""
    from .console import fail

    options = given(points=points, hide=hide, seed=seed, allow_pickle=allow_pickle or None)
    limits = given(bottom_rows=rows, min_depth=min_depth, max_depth=max_depth)
    try:
        frames = _open(dataset if submission is None else _test_set(dataset), root, options)
        scorings = [] if submission else _scorings(dataset, lines, limits)
        folders = _folders(predictions or [])
        # Found out now, not after hours.
        (submission or out).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, ImportError) as error:
        raise fail(error) from error
    specs = [spec.partition('=')[::2] for spec in compare or []]
    # Others are in addition to the model, unless there are only folders to score.
    if model or weights or specs or not folders:
        specs.insert(0, (model, weights))
    predictors = [_completer(*spec, device, precision) for spec in specs] + folders
    if dataset == _SETS:
        predictors += _beside(predictors, device, precision)
    names = [predictor.name for predictor in predictors]
    if len(set(names)) < len(names):
        raise fail(f'expected models with different names, got {", ".join(names)}')
    if submission:
        _submit(predictors, frames, submission)
        return
    settings = _Run(frames, dataset, out, limit, worst, error_maps, {})
    results = [
        _run(settings, predictor, scoring) for predictor in predictors for scoring in scorings
    ]
    _report(results, out, settings.reliability if dataset == _SETS else None)


class _Run(NamedTuple):
    """What all runs of one command share."""

    frames: 'DepthDataset'
    dataset: str
    out: Path
    limit: int | None
    worst: int
    error_maps: bool
    reliability: 'dict[str, Reliability]'
    """Of the confidence, by the label of the model; filled on the way."""


def _open(name: str, root: Path, options: dict[str, object]) -> 'DepthDataset':
    from dmd3c_ros.datasets import open_dataset

    return open_dataset(name, root, **options)


def _test_set(dataset: str) -> str:
    """Data set that a submission is made from."""
    if not dataset.startswith('kitti-'):
        raise ValueError(f'--submission: expected --dataset {_TEST_SET}, got {dataset}')
    return _TEST_SET


def _scorings(dataset: str, lines: str | None, limits: dict[str, object]) -> 'list[Scoring]':
    """Scoring for each requested number of lines."""
    from dmd3c_ros.evaluation.protocols import protocol

    scoring = replace(protocol(dataset), **limits)
    if lines is None:
        return [scoring]
    numbers = lines.split(',')
    if not all(number.strip().isdecimal() for number in numbers):
        raise ValueError(f'--lines: expected numbers such as 64,32,16,8, got {lines!r}')
    return [replace(scoring, lines=int(number)) for number in numbers]


def _folders(paths: Sequence[Path]) -> 'list[Predictor]':
    from dmd3c_ros.evaluation.protocols import FolderPredictor

    return [FolderPredictor(path) for path in paths]


def _completer(
    name: str | None, weights: str | None, device: str | None, precision: str | None
) -> 'Predictor':
    """A model, called by its name and, where one is given, its checkpoint's."""
    from dmd3c_ros.evaluation.protocols import CompleterPredictor

    completer = make_completer(
        given(model=name or None, weights=weights or None, device=device, precision=precision)
    )
    label = f'{completer.name} {Path(weights).stem}' if weights else completer.name
    return CompleterPredictor(completer, label)


def _beside(
    predictors: 'Sequence[Predictor]', device: str | None, precision: str | None
) -> 'list[Predictor]':
    """What shows how good models are: themselves without an image, and the classical methods."""
    from dmd3c_ros.core.baselines import BASELINES
    from dmd3c_ros.evaluation.protocols import CompleterPredictor

    networks = [p for p in predictors if _is_network(p)]
    grey = [
        CompleterPredictor(model.completer, f'{model.name}, grey image', grey=True)
        for model in networks
    ]
    names = {predictor.name for predictor in predictors}
    missing = [name for name in BASELINES if name not in names]
    return grey + [_completer(name, None, device, precision) for name in missing]


def _is_network(predictor: 'Predictor') -> bool:
    from dmd3c_ros.core.baselines import BASELINES

    return predictor.details.get('network', '') not in ('', *BASELINES)


def _reliability(settings: _Run, predictor: 'Predictor', label: str) -> 'Reliability | None':
    """Reliability of a network's confidence, by set; classical methods have none."""
    from dmd3c_ros.evaluation.sets import Reliability

    if settings.dataset != _SETS or not _is_network(predictor):
        return None
    return settings.reliability.setdefault(label, Reliability())


def _run(settings: _Run, predictor: 'Predictor', scoring: 'Scoring') -> 'Evaluation':
    """Evaluate one model with one scoring, and write its results."""
    from dmd3c_ros.evaluation.protocols import Evaluation, evaluate
    from dmd3c_ros.evaluation.report import Gallery, write_results

    from .console import fail, progress_bar

    label = Evaluation(predictor.name, settings.dataset, scoring).label
    folder = settings.out / re.sub(r'[^\w.-]+', '_', label)
    gallery = Gallery(settings.worst, folder / 'errors' if settings.error_maps else None)
    reliability = _reliability(settings, predictor, label)
    indices = _spread(len(settings.frames), settings.limit)

    def on_frame(sample: 'Sample', depth: 'np.ndarray', frame: 'FrameResult') -> None:
        gallery(sample, depth, frame)
        if reliability is not None:
            reliability.add(sample, depth, predictor.confidence)

    try:
        with progress_bar() as progress:
            task = progress.add_task(label, total=len(indices))
            result = evaluate(
                predictor,
                settings.frames,
                settings.dataset,
                scoring,
                indices=indices,
                on_frame=on_frame,
                on_progress=lambda: progress.advance(task),
            )
        write_results(folder, result)
        gallery.write(folder / 'worst.png')
    except OSError as error:
        raise fail(error) from error
    return result


def _spread(count: int, limit: int | None) -> list[int]:
    """Indices of at most `limit` frames, evenly over all of them."""
    kept = count if limit is None else min(limit, count)
    return [index * count // kept for index in range(kept)]


def _report(
    results: 'list[Evaluation]', out: Path, reliability: 'dict[str, Reliability] | None'
) -> None:
    """Print the tables; ends the command with code 1 if a frame failed or nothing was scored."""
    from dmd3c_ros.core.baselines import BASELINES
    from dmd3c_ros.evaluation.report import band_table, result_table
    from dmd3c_ros.evaluation.sets import set_summary, set_table
    from dmd3c_ros.io.atomic import write_json

    from .console import fail, result_console, say

    console = result_console()
    console.print(result_table(results))
    console.print(band_table(results))
    try:
        if reliability is not None:
            classical = [result for result in results if result.model in BASELINES]
            console.print(set_table(results, classical, reliability))
            write_json(out / 'sets.json', set_summary(results, classical, reliability))
        write_json(out / 'summary.json', [result.as_dict() for result in results])
    except OSError as error:
        raise fail(error) from error
    say(f'results in {out}/: summary.json; per model frames.csv, mean.json, worst.png')
    failures = {frame: reason for result in results for frame, reason in result.failures.items()}
    for frame, reason in failures.items():
        say(f'failed {frame}: {reason}')
    if failures:
        raise fail(f'{len(failures)} frames failed; means are over the others')
    if any(result.mean is None for result in results):
        raise fail('no frame has ground truth in the evaluated range')


def _submit(predictors: 'list[Predictor]', frames: 'DepthDataset', folder: Path) -> None:
    from dmd3c_ros.evaluation.protocols import write_submission

    from .console import fail, progress_bar, say

    if len(predictors) != 1:
        raise fail(f'--submission: expected one model, got {len(predictors)}')
    try:
        with progress_bar() as progress:
            task = progress.add_task(predictors[0].name, total=len(frames))
            failures = write_submission(
                predictors[0], frames, folder, on_progress=lambda: progress.advance(task)
            )
    except OSError as error:
        raise fail(error) from error
    for frame, reason in failures.items():
        say(f'failed {frame}: {reason}')
    if failures:
        raise fail(f'{len(failures)} of {len(frames)} images are missing in {folder}')
    say(f'{len(frames)} images in {folder}; zip them without the folder for upload')
