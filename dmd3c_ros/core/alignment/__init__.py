"""Bringing relative depth to metres: scale and shift of inverse depth, by the points that a sensor
measured."""

from .sparse import LOSSES, Aligned, AlignmentConfig, align_to_points

__all__ = ['LOSSES', 'Aligned', 'AlignmentConfig', 'align_to_points']
