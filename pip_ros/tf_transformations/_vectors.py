"""Length and direction of vectors."""

import numpy as np


def vector_norm(data, axis=None, out=None):
    """Euclidean length along `axis` (a float without one); written to `out` where given."""
    squares = np.square(np.asarray(data, dtype=np.float64))
    if out is None and axis is None:
        return float(np.sqrt(squares.sum()))
    total = np.atleast_1d(squares.sum(axis=axis))
    if out is None:
        return np.sqrt(total)
    np.sqrt(total, out=out)
    return None


def unit_vector(data, axis=None, out=None):
    """Vectors of length 1 along `axis` (one vector without it); written to `out` where given."""
    data = np.array(data, dtype=np.float64)
    length = np.sqrt(np.square(data).sum(axis=axis, keepdims=axis is not None))
    if out is None:
        return data / length
    np.divide(data, length, out=out)
    return None


def random_vector(size):
    """Uniform random numbers in [0, 1), shape `size`."""
    return np.random.random(size)
