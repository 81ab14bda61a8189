"""Bringing relative depth to metres: by the points that a sensor measured, or by ground truth."""

from .sparse import LOSSES, Aligned, AlignmentConfig, align_to_points
from .truth import ALIGNMENTS, align_to_truth

__all__ = [
    'ALIGNMENTS',
    'LOSSES',
    'Aligned',
    'AlignmentConfig',
    'align_to_points',
    'align_to_truth',
]
