"""Weights drawn from their names, and small numbers that stand for whole tensors.

A published network is checked against its authors' implementation without their files: both are
given the same weights, drawn here from nothing but a seed and each parameter's name and shape,
and then agree on the depth and on the gradients of one training step. What is committed is not
the tensors but a sketch of each, see `sketch`.

The rule keeps the signal's size through the depth of a network, so that no block fades below the
tolerance of the comparison and none drowns the others:

======================  ===========================================================
weight, >= 2 axes       uniform, variance gain^2 / fan-in, fan-in = prod(shape[1:])
weight, 1 axis          1 + uniform of deviation 0.1 (batch and layer norm)
bias, other 1 axis      uniform of deviation 0.1
running_mean            uniform of deviation 0.1
running_var             uniform in 0.8 .. 1.25
num_batches_tracked     0
======================  ===========================================================

The gain is sqrt(2) (a ReLU halves the power) unless a pattern in `gains` names the parameter;
`offsets` likewise shift the values of the parameters that they name, by 0 unless stated.
Draws use raw PCG64 words, whose stream NumPy guarantees, so every version gives the same bits.
"""

import fnmatch
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

DEFAULT_GAIN = math.sqrt(2.0)
TOLERANCE = 1e-4
"""Of a network's outputs and gradients: relative errors of sketches and tensors, see below."""


def golden(name: str) -> dict[str, Any]:
    """What the authors' implementation of a network computed."""
    return json.loads((Path(__file__).parent / 'golden' / f'{name}.json').read_text())


def uniform(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Return float64 values in [0, 1) of `shape` that depend on the name and the seed alone."""
    words = _words(name, seed).random_raw(math.prod(shape))
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53).reshape(shape)


def _words(name: str, seed: int) -> np.random.PCG64:
    digest = hashlib.sha256(f'{seed}:{name}'.encode()).digest()
    return np.random.PCG64(int.from_bytes(digest[:16], 'little'))


def centred(name: str, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Like `uniform`, with mean 0 and deviation 1."""
    return (uniform(name, shape, seed) - 0.5) * math.sqrt(12.0)


def draw(
    name: str,
    like: torch.Tensor,
    seed: int = 0,
    gains: Mapping[str, float] | None = None,
    offsets: Mapping[str, float] | None = None,
) -> torch.Tensor:
    """Return the value of one entry of a state dict, of the type and shape of `like`.

    Args:
        name: full name in the state dict.
        like: the entry to be replaced; its values are not read, except for integer buffers
            other than counters, which are part of the architecture and returned as they are.
        seed: another seed is another set of weights.
        gains: shell patterns of names -> gain; the first match wins. The gain multiplies the
            deviation of any entry but running_var that has a matching pattern.
        offsets: shell patterns of names -> what is added to the values; the first match wins.
    """
    leaf, shape = name.rsplit('.', 1)[-1], tuple(like.shape)
    if not like.is_floating_point():
        return torch.zeros_like(like) if leaf == 'num_batches_tracked' else like.clone()
    gain = _first_match(name, gains)
    if leaf == 'running_var':
        value = 0.8 + 0.45 * uniform(name, shape, seed)
    elif like.ndim >= 2:
        fan_in = math.prod(shape[1:])
        deviation = (DEFAULT_GAIN if gain is None else gain) / math.sqrt(fan_in)
        value = deviation * centred(name, shape, seed)
    else:
        offset = 1.0 if leaf == 'weight' else 0.0
        value = offset + 0.1 * (1.0 if gain is None else gain) * centred(name, shape, seed)
    return (value + (_first_match(name, offsets) or 0.0)).to(like.dtype)


def _first_match(name: str, patterns: Mapping[str, float] | None) -> float | None:
    matches = (value for key, value in (patterns or {}).items() if fnmatch.fnmatch(name, key))
    return next(matches, None)


@torch.no_grad()
def draw_weights(
    network: nn.Module,
    seed: int = 0,
    gains: Mapping[str, float] | None = None,
    offsets: Mapping[str, float] | None = None,
) -> nn.Module:
    """Replace every parameter and buffer of the network by the rule's, in place; return it."""
    for name, value in network.state_dict(keep_vars=True).items():
        value.copy_(draw(name, value, seed, gains, offsets))
    return network


class Sketch(NamedTuple):
    """Root mean square of a tensor and its projections on seeded random signs."""

    rms: float
    projections: tuple[float, ...]


def sketch(name: str, tensor: torch.Tensor, count: int = 8) -> Sketch:
    """Sum up a tensor in `count` + 1 numbers.

    A projection is sum(sign * value) / sqrt(size): two tensors that differ by an error of root
    mean square e have projections that differ by about e, wherever the error lies.
    """
    flat = tensor.detach().double().flatten()
    values, total, projections = flat.numpy(), float(flat.sum()), []
    words = _words(f'sketch:{name}', 0)
    for _ in range(count):
        # The sign is the highest bit of a random word: minus where it is zero.
        minus = words.random_raw(len(values)).view(np.int64) >= 0
        projections.append((total - 2 * float(values[minus].sum())) / math.sqrt(len(values)))
    return Sketch(float(flat.square().mean().sqrt()), tuple(projections))


def sketch_error(found: Sketch, expected: Sketch) -> float:
    """Largest difference of two sketches, relative to the expected root mean square."""
    pairs = zip(
        (found.rms, *found.projections), (expected.rms, *expected.projections), strict=True
    )
    return max(abs(a - b) for a, b in pairs) / max(expected.rms, 1e-30)


def golden_error(name: str, tensor: torch.Tensor, numbers: Sequence[float]) -> float:
    """`sketch_error` of a tensor and the numbers of a golden file: rms, then projections."""
    expected = Sketch(numbers[0], tuple(numbers[1:]))
    return sketch_error(sketch(name, tensor, len(expected.projections)), expected)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of two tensors, relative to the expected root mean square."""
    expected = expected.detach().double()
    scale = expected.square().mean().sqrt().clamp_min(1e-30)
    return float((found.detach().double() - expected).abs().max() / scale)
