"""Selection of dense depth for a consumer: all of it, or what SLAM can rely on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .surfaces import hangs_on_edge


@dataclass(frozen=True)
class DepthSelection:
    """Which depth is kept.

    min_confidence: depth of lower confidence is removed, 0 to 1. A confidence that is 0 or 1
        everywhere only distinguishes measured from filled depth, as for the classical methods,
        and removes nothing. edges: False removes flying pixels between two surfaces.
        max_depth: m; depth beyond it is removed.
    """

    min_confidence: float = 0.0
    edges: bool = True
    max_depth: float = np.inf

    def select(self, depth: np.ndarray, confidence: np.ndarray | None = None) -> np.ndarray:
        """Depth (H, W) float32, m, with 0 = unknown where it is removed.

        depth: (H, W) float32, m, 0 = unknown. confidence: (H, W) float32, 0 to 1, or None.
        """
        out = []
        if self.max_depth < np.inf:
            out.append(depth > self.max_depth)
        if self.min_confidence > 0 and confidence is not None and _is_graded(confidence):
            out.append(confidence < self.min_confidence)
        if not self.edges:
            out.append(hangs_on_edge(depth))
        return np.where(np.logical_or.reduce(out), np.float32(0), depth) if out else depth


# Without the preset ORB-SLAM3 locks on to the traffic around it: docs/slam.md.
PRESETS = {'all': DepthSelection(), 'slam': DepthSelection(min_confidence=0.2, edges=False)}


def _is_graded(confidence: np.ndarray) -> bool:
    return bool(((confidence > 0) & (confidence < 1)).any())


def check_preset(name: str) -> None:
    """Raise ValueError for a name that is not in PRESETS."""
    if name not in PRESETS:
        raise ValueError(f'preset: expected one of {", ".join(PRESETS)}; got {name!r}')
