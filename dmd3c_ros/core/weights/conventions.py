"""What each checkpoint expects of its input, found from the checkpoint itself.

The published networks were trained on images and depths prepared in different ways, and their
files do not say how. This module recognizes them, so that a user only has to give a file. If a
file states its convention, as those of this project's training do, that is used.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, fields, replace

from dmd3c_ros.core.networks.base import CompletionNetwork, Convention

from .contents import Checkpoint

_log = logging.getLogger(__name__)

STATED = 'convention'  # key of a checkpoint that holds ``asdict(Convention)``

# KITTI's depth selection has 352 rows; these were cut off at the top.
_LRRU_CUT = (352 - 256) / 352
_KITTI_HEIGHT = 352
# BP-Net's files hold the RMSE on their validation set, m: about 0.09 on NYU, 0.7 on KITTI, and
# 1.4 for DMD3C's single-view stage.
_LARGEST_INDOOR_RMSE = 0.3


def convention_of(network: CompletionNetwork, checkpoint: Checkpoint) -> Convention:
    """Convention of a checkpoint that fits ``network``.

    Raises ValueError for a stated convention that names unknown fields or holds no numbers.
    """
    stated = checkpoint.facts.get(STATED)
    if stated is not None:
        return _stated(stated, network.convention, checkpoint)
    finder = _FINDERS.get(type(network).__name__)
    convention = finder(network.convention, checkpoint) if finder else network.convention
    _log.debug('%s: %s', checkpoint.path, convention)
    return convention


def _stated(stated: object, own: Convention, checkpoint: Checkpoint) -> Convention:
    known = {field.name for field in fields(Convention)}
    if not isinstance(stated, dict) or not stated.keys() <= known:
        raise ValueError(
            f'{checkpoint.path}: {STATED}: expected a dict of {", ".join(sorted(known))}; '
            f'got {stated!r}'
        )
    values = asdict(own) | stated
    try:
        return Convention(
            mean=tuple(float(value) for value in values['mean']),
            std=tuple(float(value) for value in values['std']),
            size_multiple=int(values['size_multiple']),
            depth_scale=float(values['depth_scale']),
            cut_above=float(values['cut_above']),
            point_distance=float(values['point_distance']),
            reduced_by=values['reduced_by'],
            blurred_below=float(values['blurred_below']),
            contrast=tuple(float(value) for value in values['contrast']),
            drops_enclosed=bool(values['drops_enclosed']),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f'{checkpoint.path}: {STATED}: {error}') from error


def _bpnet(convention: Convention, checkpoint: Checkpoint) -> Convention:
    from dmd3c_ros.core.networks.bpnet import KITTI, NYU

    error = checkpoint.facts.get('best_metric_ema')
    indoor = error < _LARGEST_INDOOR_RMSE if isinstance(error, float) else _named_nyu(checkpoint)
    _log.info('%s: BP-Net for %s', checkpoint.path.name, 'NYU, depth x10' if indoor else 'KITTI')
    return NYU if indoor else KITTI


def _lrru(convention: Convention, checkpoint: Checkpoint) -> Convention:
    # All four are KITTI's, trained and validated on its lowest 256 rows.
    return replace(convention, cut_above=_LRRU_CUT)


def _completionformer(convention: Convention, checkpoint: Checkpoint) -> Convention:
    settings = checkpoint.facts.get('args')
    if isinstance(settings, Namespace):
        outdoor = getattr(settings, 'data_name', '') == 'KITTIDC'
        rows = getattr(settings, 'top_crop', 0) if outdoor else 0
    else:
        rows = 0 if _named_nyu(checkpoint) else 100
    return replace(convention, cut_above=rows / _KITTI_HEIGHT)


def _named_nyu(checkpoint: Checkpoint) -> bool:
    """Whether the file or folder name indicates NYU; BP-Net's are all named result_ema.pth."""
    return 'nyu' in f'{checkpoint.path.parent.name}/{checkpoint.path.name}'.lower()


_FINDERS: dict[str, Callable[[Convention, Checkpoint], Convention]] = {
    'BPNet': _bpnet,
    'LRRU': _lrru,
    'CompletionFormer': _completionformer,
}
