"""Image and exact dense depth of a scene by ray casting."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera

from .scene import Light, Scene
from .textures import albedo, fractal

_LIFT_M = 0.01  # along the normal, so that a shadow ray does not meet its own surface
_CORNER_M = 1.2  # reach of the rays that find corners shut off from the sky


class RenderedView(NamedTuple):
    """rgb (H, W, 3) uint8 and depth (H, W) float32, m along the optical axis, 0 = sky."""

    rgb: np.ndarray
    depth: np.ndarray


class _Surface(NamedTuple):
    """The N pixels that show a surface, all float32 in the world frame."""

    shape: tuple[int, int]  # height and width of the image
    pixel: np.ndarray  # (N,) index into the flattened image
    unit: np.ndarray  # (N, 3) viewing direction
    metres: np.ndarray  # (N,) distance from the camera
    normal: np.ndarray  # (N, 3) towards the camera
    point: np.ndarray  # (N, 3) just above the surface
    uv: np.ndarray  # (N, 2)
    row: np.ndarray  # (N,) material
    face: np.ndarray  # (N,) triangle


def camera_rays(T_world_camera: np.ndarray, camera: Camera) -> np.ndarray:
    """Rays (H * W, 6) float32 in the world frame, whose length unit is depth along the axis."""
    M, p4 = np.asarray(camera.P[:, :3], float), np.asarray(camera.P[:, 3], float)
    to_world = T_world_camera[:3, :3] @ np.asarray(camera.R, float).T
    inverse = np.linalg.inv(M)
    origin = T_world_camera[:3, 3] - to_world @ (inverse @ p4)
    step = to_world @ inverse
    rays = np.empty((camera.height, camera.width, 6), np.float32)
    rays[..., :3] = origin
    u = step[:, 0] * np.arange(camera.width)[:, None]
    v = step[:, 1] * np.arange(camera.height)[:, None, None]
    rays[..., 3:] = u + v + step[:, 2]
    return rays.reshape(-1, 6)


def render(
    scene: Scene, T_world_camera: np.ndarray, camera: Camera, threads: int = 0
) -> RenderedView:
    """What the camera sees from its pose T_world_camera (4, 4), optical frame.

    threads: worker threads of the ray caster, 0 for all. The same arguments always give
    identical arrays.
    """
    shape = (camera.height, camera.width)
    rays = camera_rays(T_world_camera, camera)
    hits = scene.cast(rays, threads)
    met = hits.face >= 0
    rng = np.random.default_rng([scene.seed, 77, round(scene.time_s * 1e4)])
    length = _length(rays[:, 3:])
    unit = rays[:, 3:] / length[:, None]
    linear = np.empty((len(rays), 3), np.float32)
    linear[~met] = sky(scene.light, unit[~met])
    pixel = np.flatnonzero(met)
    if len(pixel):
        face, metres = hits.face[pixel], hits.distance[pixel] * length[pixel]
        normal, uv, row = scene.interpolate(face, hits.bary[pixel])
        ahead = unit[pixel]
        normal *= -np.sign(_dot(normal, ahead))[:, None]
        point = rays[pixel, :3] + ahead * metres[:, None] + _LIFT_M * normal
        surface = _Surface(shape, pixel, ahead, metres, normal, point, uv, row, face)
        linear[pixel] = _shade(scene, surface, rng, threads)
    depth = np.where(met, hits.distance, 0).astype(np.float32).reshape(shape)
    rgb = develop(linear.reshape(*shape, 3), met.reshape(shape), scene.light, rng)
    return RenderedView(rgb, depth)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum('ij,ij->i', a, b)


def _length(a: np.ndarray) -> np.ndarray:
    return np.sqrt(_dot(a, a))


def sky(light: Light, direction: np.ndarray) -> np.ndarray:
    """Linear RGB (N, 3) float32 of the sky in unit directions (N, 3) float32."""
    up = np.sqrt(np.clip(direction[:, 2], 0, 1))[:, None]
    horizon, zenith, sun = (
        np.array(c, np.float32) for c in (light.horizon, light.zenith, light.sun_color)
    )
    color = horizon + (zenith - horizon) * up
    flat = direction[:, :2] * (60 / (up * up + np.float32(0.12))) + 300
    cover = fractal(flat[:, 0], flat[:, 1])
    cover = 0.85 * np.clip((cover - 0.75 + 0.6 * light.cloudiness) * 4, 0, 1)[:, None]
    color += cover * (sun.mean() * 0.25 + horizon.mean() * 0.6 - color)
    toward = np.clip(direction @ np.array(light.sun_direction, np.float32), 0, 1)
    glow = 0.2 * toward**12 + 1.2 * toward**300
    return color + glow[:, None] * sun


def _shade(scene: Scene, surface: _Surface, rng: np.random.Generator, threads: int) -> np.ndarray:
    """Linear radiance (N, 3) of the surface's pixels."""
    light, table = scene.light, scene.materials
    color = albedo(table, surface.row, surface.uv, surface.face, surface.metres)
    irradiance = _sunlight(scene, surface, threads)
    irradiance += _ambient(scene, surface, rng, threads)
    for lamp in light.lamps:
        irradiance += _lamplight(scene, np.array(lamp, np.float32), surface, threads)
    color *= irradiance + table['emission'][surface.row][:, None]
    _reflect(scene, color, surface)
    haze = np.exp(surface.metres / np.float32(-light.haze_m))[:, None]
    horizon = np.array(light.horizon, np.float32)
    return horizon + (color - horizon) * haze


def _sunlight(scene: Scene, surface: _Surface, threads: int) -> np.ndarray:
    sun = np.array(scene.light.sun_direction, np.float32)
    power = np.array(scene.light.sun_color, np.float32)
    cosine = np.clip(surface.normal @ sun, 0, None)
    lit = np.flatnonzero(cosine > 0) if power.max() > 0 else np.zeros(0, int)
    if len(lit):
        rays = np.empty((len(lit), 6), np.float32)
        rays[:, :3], rays[:, 3:] = surface.point[lit], sun
        cosine[lit[scene.blocked(rays, np.inf, threads)]] = 0
    return cosine[:, None] * power


def _ambient(
    scene: Scene, surface: _Surface, rng: np.random.Generator, threads: int
) -> np.ndarray:
    """Light of sky and ground, less in corners.

    Corners: one short random ray for every fourth pixel, smoothed over their neighbourhood.
    """
    shape = surface.shape
    v, u = np.divmod(surface.pixel, shape[1])
    chosen = np.flatnonzero((v % 2 == 0) & (u % 2 == 0))
    rays = np.empty((len(chosen), 6), np.float32)
    rays[:, :3] = surface.point[chosen]
    direction = rng.standard_normal((len(chosen), 3), np.float32)
    direction /= _length(direction)[:, None]
    rays[:, 3:] = direction + 1.05 * surface.normal[chosen]
    half = np.zeros(((shape[0] + 1) // 2, (shape[1] + 1) // 2), np.float32)
    known, shut = half.copy(), half.copy()
    known[v[chosen] // 2, u[chosen] // 2] = 1
    shut[v[chosen] // 2, u[chosen] // 2] = scene.blocked(rays, _CORNER_M, threads)
    fraction = cv2.blur(shut, (5, 5)) / np.maximum(cv2.blur(known, (5, 5)), 0.04)
    fraction = cv2.resize(fraction, shape[::-1]).ravel()[surface.pixel]
    level = (0.62 + 0.38 * surface.normal[:, 2]) * (1 - 0.75 * fraction)
    return level[:, None] * np.array(scene.light.ambient, np.float32)


def _lamplight(scene: Scene, lamp: np.ndarray, surface: _Surface, threads: int) -> np.ndarray:
    to_lamp = lamp - surface.point
    squared = _dot(to_lamp, to_lamp)
    cosine = np.clip(_dot(to_lamp, surface.normal) / np.sqrt(squared + 1e-6), 0, None)
    rays = np.concatenate([surface.point, to_lamp * 0.95], 1)
    cosine[scene.blocked(rays, 1.0, threads)] = 0
    warm = np.array([1.0, 0.85, 0.65], np.float32)
    return (2.2 * cosine / (squared + 0.5))[:, None] * warm


def _reflect(scene: Scene, color: np.ndarray, surface: _Surface) -> None:
    """Add mirror images of sky and skyline on glossy surfaces, in place."""
    gloss = scene.materials['gloss'][surface.row]
    index = np.flatnonzero(gloss > 0)
    if not len(index):
        return
    gloss, d, n = gloss[index], surface.unit[index], surface.normal[index]
    cosine = np.clip(-_dot(d, n), 0, 1)
    mirrored = d + 2 * cosine[:, None] * n
    fraction = np.minimum(gloss + (1 - gloss) * (1 - cosine) ** 5, 0.6)[:, None]
    azimuth = np.arctan2(mirrored[:, 1], mirrored[:, 0])
    skyline = 0.15 + 0.5 * (fractal(azimuth * 40, np.full_like(azimuth, 7.0)) - 0.4)
    open_sky = np.clip((mirrored[:, 2] - skyline) * 4, 0, 1)[:, None]
    dark = np.array(scene.light.ambient, np.float32) * 0.3
    mirror = dark + (np.minimum(sky(scene.light, mirrored), 3.0) - dark) * open_sky
    color[index] += (mirror - color[index]) * fraction


def develop(
    linear: np.ndarray, met: np.ndarray, light: Light, rng: np.random.Generator
) -> np.ndarray:
    """Camera response: linear radiance (H, W, 3) to rgb uint8; met: pixels that are not sky."""
    height, width = met.shape
    sample = linear[::4, ::4][met[::4, ::4]] if met[::4, ::4].any() else linear.reshape(-1, 3)
    exposure = light.key / max(float(np.percentile(sample.mean(1), 60)), 1e-4)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * (height / width)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    gain = exposure * (1 - light.vignette * (x**2 + y**2) / 1.3)
    image = linear * (gain[..., None] * np.array(light.white_balance, np.float32))
    if light.blur_px > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), light.blur_px)
    noise = rng.standard_normal((height, width, 3), np.float32)
    image = np.clip(image, 0, 1)
    image += noise * (light.noise * np.sqrt(image + 0.02))
    curve = (np.linspace(0, 1, 4096) ** (1 / light.gamma) * 255 + 0.5).astype(np.uint8)
    return curve[(np.clip(image, 0, 1) * 4095).astype(np.int16)]
