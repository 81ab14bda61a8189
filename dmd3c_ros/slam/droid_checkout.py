"""Creates a `Droid` from the user's own checkout of DROID-SLAM."""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .droid import Tracker

# What DROID-SLAM's own RGB-D script passes to Droid (since 2025-05), by the names that its modules
# read; earlier versions ignore motion_damping.
_OPTIONS: Mapping[str, Any] = {
    'stereo': False,
    'disable_vis': True,
    'buffer': 1024,
    'beta': 0.5,
    'filter_thresh': 2.0,
    'warmup': 8,
    'keyframe_thresh': 3.5,
    'frontend_thresh': 16.0,
    'frontend_window': 20,
    'frontend_radius': 2,
    'frontend_nms': 1,
    'backend_thresh': 22.0,
    'backend_radius': 2,
    'backend_nms': 3,
    'motion_damping': 0.5,
    'upsample': False,
}


@dataclass(frozen=True)
class DroidCheckout:
    """Where DROID-SLAM is, and how it is instantiated.

    droid_path: folder of the DROID-SLAM checkout, built according to its instructions.
    droid_weights: checkpoint file; if empty, droid.pth in the checkout.
    droid_options: options of the Droid class as a YAML mapping, such as '{buffer: 512, beta:
        0.3}'; the others are those of DROID-SLAM's RGB-D script.
    """

    droid_path: str = ''
    droid_weights: str = ''
    droid_options: str = '{}'

    def __post_init__(self) -> None:
        if not self.droid_path:
            raise ValueError("droid_path: expected the folder of DROID-SLAM's checkout, got none")
        self.options()

    def options(self) -> dict[str, Any]:
        """`droid_options` over the defaults; raises ValueError if they are not a mapping."""
        try:
            given = yaml.safe_load(self.droid_options) or {}
        except yaml.YAMLError as error:
            raise ValueError(f'droid_options: expected YAML: {error}') from error
        if not isinstance(given, dict):
            raise ValueError(
                "droid_options: expected a mapping such as '{buffer: 512}', "
                f'got {self.droid_options!r}'
            )
        return {**_OPTIONS, **given}

    def folder(self) -> Path:
        """Where its modules are; FileNotFoundError where there are none."""
        folder = Path(self.droid_path).expanduser().resolve() / 'droid_slam'
        if not (folder / 'droid.py').is_file():
            raise FileNotFoundError(
                f"droid_path: expected DROID-SLAM's checkout, found no {folder / 'droid.py'}"
            )
        return folder

    def load(self) -> type:
        """DROID-SLAM's class Droid; FileNotFoundError or ImportError saying what is missing."""
        folder = self.folder()
        # Its modules import each other by their bare names.
        sys.path.insert(0, str(folder))
        try:
            return importlib.import_module('droid').Droid
        except ImportError as error:
            raise ImportError(
                f'{folder}: DROID-SLAM cannot be imported; is it built? ({error})'
            ) from error

    def weights(self) -> Path:
        """The checkpoint; FileNotFoundError where it is not there."""
        path = Path(self.droid_weights or Path(self.droid_path) / 'droid.pth').expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"droid_weights: expected DROID-SLAM's checkpoint, no {path}")
        return path

    def make(self, droid: type, height: int, width: int) -> Tracker:
        """A Droid for images of this size."""
        arguments = {'weights': str(self.weights()), 'image_size': [height, width]}
        return droid(Namespace(**{**arguments, **self.options()}))
