"""Tensor operations that the completion networks share."""
