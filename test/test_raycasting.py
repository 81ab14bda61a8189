"""Open3D and embreex give the same hits, and either renders the training's scenes."""

import sys

import numpy as np
import pytest

from dmd3c_ros.simulation import raycasting
from dmd3c_ros.simulation.raycasting import EmbreexTriangles, Open3dTriangles, triangles

pytest.importorskip('open3d')

VERTICES = np.array(
    [[0, 0, 5], [4, 0, 5], [0, 4, 6], [9, 9, 9], [10, 9, 9], [9, 10, 9]], np.float32
)
INDICES = np.array([[0, 1, 2], [3, 4, 5]], np.uint32)


def _rays() -> np.ndarray:
    rng = np.random.default_rng(0)
    aside = rng.uniform(-0.3, 0.9, (500, 2))
    return np.concatenate([rng.normal(0, 0.1, (500, 3)), aside, np.full((500, 1), 2.0)], 1)


def test_both_libraries_give_the_same_hits():
    pytest.importorskip('embreex')
    one, other = (kind(VERTICES, INDICES) for kind in (Open3dTriangles, EmbreexTriangles))
    rays = _rays()
    hits, others = one.cast(rays), other.cast(rays)
    assert 0.2 < (hits.face >= 0).mean() < 0.8
    np.testing.assert_array_equal(hits.face, others.face)
    np.testing.assert_allclose(hits.distance, others.distance, rtol=1e-5)
    met = hits.face >= 0
    np.testing.assert_allclose(hits.bary[met], others.bary[met], atol=1e-5)
    for reach in (2.0, 2.6, 9.0):
        np.testing.assert_array_equal(one.blocked(rays, reach), other.blocked(rays, reach))


def test_embreex_serves_where_open3d_is_missing(monkeypatch):
    pytest.importorskip('embreex')
    found = raycasting.find_spec
    monkeypatch.setattr(raycasting, 'find_spec', lambda n: None if n == 'open3d' else found(n))
    assert isinstance(triangles(VERTICES, INDICES), EmbreexTriangles)


def test_with_neither_library_both_are_named(monkeypatch):
    monkeypatch.setattr(raycasting, 'find_spec', lambda name: None)
    monkeypatch.setitem(sys.modules, 'open3d', None)
    with pytest.raises(ImportError, match='needs the package open3d or embreex'):
        triangles(VERTICES, INDICES)
