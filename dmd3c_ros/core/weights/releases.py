"""The checkpoints that the networks' authors released, and telling a network by its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from dmd3c_ros.core import networks
from dmd3c_ros.core.cache import cache_folder

_DRIVE_FILE = 'https://drive.google.com/file/d/{}/view'
# Serves a file without the page that asks whether it may be too large to be scanned.
_DRIVE_DOWNLOAD = 'https://drive.usercontent.google.com/download?id={}&export=download&confirm=t'
_DMD3C = 'https://github.com/Sharpiless/DMD3C'
_DMD3C_FILES = f'{_DMD3C}/releases/download/pretrain-checkpoints'
_UNLICENSED = 'none stated'
_BUNDLED = 'this package'
WEIGHTS_FOLDER = Path(__file__).resolve().parents[2] / 'weights'


@dataclass(frozen=True)
class Release:
    """A published checkpoint.

    name: in this package. network: see ``networks.names``. trained_on: data, and the authors'
    error where they state one. file: its name in the cache. page: its web page. url: of
    the file itself, empty if it can only be downloaded by hand. licence: of the repository that
    offers it. size_mb: approximate, from the number of parameters. sha256: empty if the authors do
    not state it.
    """

    name: str
    network: str
    trained_on: str
    file: str
    page: str
    url: str
    licence: str
    size_mb: float
    sha256: str = ''


def _drive(name: str, network: str, trained_on: str, key: str, **rest: object) -> Release:
    page, url = _DRIVE_FILE.format(key), _DRIVE_DOWNLOAD.format(key)
    return Release(name, network, trained_on, page=page, url=url, **rest)


def _dmd3c(name: str, trained_on: str, file: str) -> Release:
    url = f'{_DMD3C_FILES}/{file}'
    return Release(name, 'bpnet', trained_on, file, _DMD3C, url, 'MIT', 360)


def _folder(name: str, trained_on: str, key: str) -> Release:
    page = f'https://drive.google.com/drive/folders/{key}'
    return Release(name, 'completionformer', trained_on, f'{name}.pt', page, '', 'MIT', 334)


def _bundled(name: str, size_mb: float) -> Release:
    file = f'{name}.pth'
    return Release(name, name, 'simulated scenes', file, _BUNDLED, '', 'Apache-2.0', size_mb)


RELEASES = (
    _bundled('light', 4.0),
    _bundled('two_stage', 8.3),
    _dmd3c(
        'dmd3c',
        'KITTI, distilled from Depth Anything V2 (paper: RMSE 678.12 mm)',
        'dmd3c_distillation_depth_anything_v2.pth',
    ),
    _dmd3c(
        'dmd3c_single_view',
        'single images, before KITTI (KITTI validation RMSE 1425.1 mm)',
        'pretrained_mixed_singleview_256.pth',
    ),
    _drive(
        'bpnet_kitti',
        'bpnet',
        'KITTI',
        '1sNq68jEEyLU2_XmH1UZRs4wOrt_MidcO',
        file='bpnet_kitti.pth',
        licence='MIT',
        size_mb=360,
    ),
    _drive(
        'bpnet_nyu',
        'bpnet',
        'NYU Depth v2',
        '1XfKoJVCkj_J5euTkONI_iBx9ZxLUov9w',
        file='bpnet_nyu.pth',
        licence='MIT',
        size_mb=360,
    ),
    *(
        _drive(
            f'lrru_{size}',
            f'lrru_{size}',
            f'KITTI (validation RMSE {rmse} mm)',
            key,
            file=f'LRRU_{size.capitalize()}.pt',
            licence=_UNLICENSED,
            size_mb=size_mb,
        )
        for size, rmse, key, size_mb in (
            ('mini', 806.3, '18je8eR_EqgtS8IM5dKvr0uy9jBoiMZe6', 1.4),
            ('tiny', 763.8, '1nEoC1eUkvB_eZF-t6V_ykogwo0YXoA2l', 5.3),
            ('small', 745.3, '1YtldwyFsTUwmii4H2_fk8z9OiRLdZniI', 21),
            ('base', 729.5, '10WTVS7a_5Hjo4f5iNgY0v_KsYuftoDZk', 83),
        )
    ),
    _folder('completionformer_nyu', 'NYU Depth v2', '1GlMVhI1Auo9noimR6NN0S-QLwL04ypCb'),
    _folder('completionformer_kitti', 'KITTI', '1Tp1XAU7D7HOMq_iLEGzvt4I15g_HGBeM'),
)


def release(name: str) -> Release:
    """Return the release of that name; ValueError names the known ones."""
    found = {item.name: item for item in RELEASES}
    if name not in found:
        raise ValueError(f'weights: expected one of {", ".join(found)}; got {name!r}')
    return found[name]


def weights_path(item: Release, folder: Path | None = None) -> Path:
    """Where a release is stored, by default in the cache; the file need not exist."""
    if item.page == _BUNDLED:
        return WEIGHTS_FOLDER / item.file
    return (folder or cache_folder() / 'weights') / item.file


def recognize(state: Mapping[str, torch.Tensor]) -> str | None:
    """Name of the network that has exactly these parameters; None if there is none."""
    shapes = _without_counters({name: tensor.shape for name, tensor in state.items()})
    return next((name for name in networks.names() if parameter_shapes(name) == shapes), None)


def closest(state: Mapping[str, torch.Tensor]) -> tuple[str, float]:
    """The network that shares most of its parameters' names and shapes, and their fraction."""
    entries = {(name, tuple(tensor.shape)) for name, tensor in state.items()}

    def fraction(name: str) -> float:
        own = {(key, tuple(shape)) for key, shape in parameter_shapes(name).items()}
        return len(own & entries) / len(own)

    best = max(networks.names(), key=fraction)
    return best, fraction(best)


@lru_cache
def parameter_shapes(name: str) -> dict[str, torch.Size]:
    """Shapes of a network's parameters and buffers, but for batch counters, by name."""
    state = meta_network(name).state_dict()
    return _without_counters({key: tensor.shape for key, tensor in state.items()})


def meta_network(name: str) -> networks.CompletionNetwork:
    """Build a network with empty tensors, which is fast even for a large one."""
    with torch.device('meta'):
        return networks.build(name)


def _without_counters(shapes: dict[str, torch.Size]) -> dict[str, torch.Size]:
    # Old checkpoints lack them.
    return {key: s for key, s in shapes.items() if not key.endswith('num_batches_tracked')}
