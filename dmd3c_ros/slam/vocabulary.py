"""A vocabulary of ORB descriptors in DBoW2's text format, which ORB-SLAM3 reads.

The tree of Galvez-Lopez and Tardos ("Bags of binary words for fast place recognition in image
sequences", T-RO 2012): clusters of binary descriptors, each split into clusters again, by Hamming
distance to the bitwise majority. The text has a line `branching levels scoring weighting` and then
a line for each node, parents first: parent's number, 1 for a word, 32 bytes, weight. Nodes count
from 1 in the order of their lines; 0 is the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.io.atomic import write_bytes

_BYTES = 32
# DBoW2's numbers of the L1 norm between two images, and of tf-idf for the words.
_SCORING, _WEIGHTING = 0, 0


@dataclass(frozen=True)
class VocabularySettings:
    """Shape of the tree.

    branching: children of a node. levels: of the tree at most; ORB-SLAM3 compares features under
    the same node four levels above the deepest words, so 6 leaves it branching^2 groups.
    smallest: a cluster of fewer descriptors is a word. rounds: of each clustering at most.
    features: descriptors of each image at most. seed: of the first centres.
    """

    branching: int = 10
    levels: int = 6
    smallest: int = 20
    rounds: int = 10
    features: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (('branching', 2), ('levels', 1), ('rounds', 1), ('features', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'{name}: expected {least} or more, got {getattr(self, name)}')


class Node(NamedTuple):
    """parent: its number. word: nothing is below it. descriptor (32,) uint8. weight: idf."""

    parent: int
    word: bool
    descriptor: np.ndarray
    weight: float


def describe(images: Iterable[np.ndarray], features: int) -> list[np.ndarray]:
    """ORB descriptors (N, 32) uint8 of each image (H, W, 3) uint8 that has any."""
    orb = cv2.ORB_create(features)
    found = []
    for image in images:
        _, descriptors = orb.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        if descriptors is not None:
            found.append(descriptors)
    return found


def train(images: list[np.ndarray], settings: VocabularySettings | None = None) -> list[Node]:
    """Nodes of a vocabulary, parents first, of the descriptors (N, 32) uint8 of each image.

    Raises ValueError for descriptors of another form, or too few to branch.
    """
    settings = settings or VocabularySettings()
    for descriptors in images:
        if (
            descriptors.ndim != 2
            or descriptors.shape[1] != _BYTES
            or descriptors.dtype != np.uint8
        ):
            raise ValueError(
                f'descriptors: expected (N, {_BYTES}) uint8, got {descriptors.shape} '
                f'{descriptors.dtype}'
            )
    total = sum(map(len, images))
    if total < settings.branching:
        raise ValueError(
            f'descriptors: expected {settings.branching} or more to branch, got {total}'
        )
    bits = np.unpackbits(np.concatenate(images), axis=1).astype(np.float32)
    owners = np.repeat(np.arange(len(images)), [len(image) for image in images])
    return list(_grow(bits, owners, len(images), settings))


def _grow(
    bits: np.ndarray, owners: np.ndarray, images: int, settings: VocabularySettings
) -> Iterator[Node]:
    rng = np.random.default_rng(settings.seed)
    waiting = [(0, 0, np.arange(len(bits)))]
    number = 0
    while waiting:
        parent, level, members = waiting.pop(0)
        centres, nearest = _cluster(bits[members], settings, rng)
        for index, centre in enumerate(centres):
            number += 1
            inside = members[nearest == index]
            word = level + 1 >= settings.levels or len(inside) < settings.smallest
            if not word and (bits[inside] == bits[inside[0]]).all():
                word = True
            idf = np.log(images / len(np.unique(owners[inside]))) if word else 0.0
            yield Node(parent, word, np.packbits(centre.astype(np.uint8)), float(idf))
            if not word:
                waiting.append((number, level + 1, inside))


def _cluster(
    bits: np.ndarray, settings: VocabularySettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (at most K, 256) of bits, none without members, and the nearest of each row."""
    distinct = np.unique(bits[rng.permutation(len(bits))[: 50 * settings.branching]], axis=0)
    centres = rng.permutation(distinct)[: settings.branching]
    nearest = _nearest(bits, centres)
    for _ in range(settings.rounds):
        centres = np.stack(
            [
                bits[nearest == index].mean(axis=0) > 0.5 if (nearest == index).any() else centre
                for index, centre in enumerate(centres)
            ]
        ).astype(np.float32)
        last, nearest = nearest, _nearest(bits, centres)
        if (nearest == last).all():
            break
    kept, nearest = np.unique(nearest, return_inverse=True)
    return centres[kept], nearest


def _nearest(bits: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index of the centre at the least Hamming distance: |a| + |b| - 2ab, where |a| is common."""
    return (centres.sum(axis=1) - 2 * bits @ centres.T).argmin(axis=1)


def write(path: Path, nodes: Iterable[Node], settings: VocabularySettings | None = None) -> None:
    """Write the text file. No line ends the last node's: ORB-SLAM3 would read one more node."""
    settings = settings or VocabularySettings()
    lines = [f'{settings.branching} {settings.levels} {_SCORING} {_WEIGHTING}']
    for node in nodes:
        text = ' '.join(map(str, node.descriptor))
        lines.append(f'{node.parent} {int(node.word)} {text} {node.weight:.9g}')
    write_bytes(path, '\n'.join(lines).encode('ascii'))


def check(path: Path) -> None:
    """Raise ValueError for a file that does not begin as such a text.

    ORB-SLAM3 exits on it without a word of explanation. Raises OSError for one that is not there.
    """
    with path.open('rb') as file:
        first = file.readline(100).split()
        second = file.readline(1000).split()
    header = [int(word) for word in first if word.isdigit()]
    if len(header) != 4 or len(first) != 4 or len(second) != _BYTES + 3:
        raise ValueError(
            f'{path}: expected a DBoW2 vocabulary as text, a line of 4 numbers and then lines of '
            f'{_BYTES + 3}; got lines of {len(first)} and {len(second)} words '
            '(an archive must be unpacked first)'
        )
