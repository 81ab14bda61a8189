"""Image and exact dense depth of a scene by ray casting."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dmd3c_ros.core.camera import Camera
from dmd3c_ros.simulation.scene import Hits, Light, Scene
from dmd3c_ros.simulation.textures import albedo, fractal

_LIFT = 0.01  # m along the normal, so that a shadow ray does not meet its own surface


class RenderedView(NamedTuple):
    """rgb (H, W, 3) uint8 and depth (H, W) float32, m along the optical axis, 0 = sky."""

    rgb: np.ndarray
    depth: np.ndarray


def camera_rays(T_world_camera: np.ndarray, camera: Camera) -> np.ndarray:
    """Rays (H * W, 6) float32 in the world frame, whose length unit is depth along the axis."""
    M, p4 = np.asarray(camera.P[:, :3], float), np.asarray(camera.P[:, 3], float)
    to_world = T_world_camera[:3, :3] @ np.asarray(camera.R, float).T
    inverse = np.linalg.inv(M)
    origin = T_world_camera[:3, 3] - to_world @ (inverse @ p4)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    pixels = np.stack([u.ravel(), v.ravel(), np.ones(u.size)], 1)
    directions = pixels @ (to_world @ inverse).T
    return np.concatenate(
        [np.broadcast_to(origin, directions.shape), directions], 1, dtype=np.float32
    )


def render(
    scene: Scene, T_world_camera: np.ndarray, camera: Camera, threads: int = 0
) -> RenderedView:
    """What the camera sees from its pose T_world_camera (4, 4), optical frame.

    threads: worker threads of the ray caster, 0 for all. The same arguments always give
    identical arrays.
    """
    rays = camera_rays(T_world_camera, camera)
    hits = scene.cast(rays, threads)
    met = hits.face >= 0
    rng = np.random.default_rng([scene.seed, 77, round(scene.time_s * 1e4)])
    linear = np.empty((len(rays), 3), np.float32)
    unit = rays[:, 3:] / np.linalg.norm(rays[:, 3:], axis=1, keepdims=True)
    linear[~met] = sky(scene.light, unit[~met])
    if met.any():
        picked = np.flatnonzero(met)
        part = Hits(hits.distance[picked], hits.face[picked], hits.bary[picked])
        linear[picked] = _shade(scene, rays[picked], unit[picked], part, rng, threads)
    shape = (camera.height, camera.width)
    depth = np.where(met, hits.distance, 0).astype(np.float32).reshape(shape)
    rgb = develop(linear.reshape(*shape, 3), met.reshape(shape), scene.light, rng)
    return RenderedView(rgb, depth)


def sky(light: Light, direction: np.ndarray) -> np.ndarray:
    """Linear RGB (N, 3) of the sky in unit directions (N, 3)."""
    up = np.clip(direction[:, 2], 0, 1)[:, None]
    color = np.array(light.horizon) * (1 - up**0.5) + np.array(light.zenith) * up**0.5
    flat = direction[:, :2] / (up + 0.12)
    cover = fractal(flat[:, 0] * 60 + 300, flat[:, 1] * 60 + 300)
    cover = np.clip((cover - 0.75 + 0.6 * light.cloudiness) * 4, 0, 1)[:, None]
    toward = np.clip(direction @ np.array(light.sun_direction), 0, 1)[:, None]
    white = np.mean(light.sun_color) * 0.25 + np.mean(light.horizon) * 0.6
    color = color * (1 - 0.85 * cover) + white * 0.85 * cover
    glow = 0.5 * toward**12 + 3 * toward**300
    return (color + glow * np.array(light.sun_color) * 0.4).astype(np.float32)


def _surface(scene: Scene, hits: Hits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interpolated normals (N, 3), texture coordinates (N, 2) and material rows (N,) of hits."""
    mesh = scene.mesh
    weight = np.concatenate([1 - hits.bary.sum(1, keepdims=True), hits.bary], 1)[:, :, None]
    normals = (mesh.normals[hits.face] * weight).sum(1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    return normals, (mesh.uv[hits.face] * weight).sum(1), mesh.material[hits.face]


def _shade(
    scene: Scene,
    rays: np.ndarray,
    unit: np.ndarray,
    hits: Hits,
    rng: np.random.Generator,
    threads: int,
) -> np.ndarray:
    light, table = scene.light, scene.materials
    normals, uv, row = _surface(scene, hits)
    facing = (normals * unit).sum(1)
    normals = np.where(facing[:, None] > 0, -normals, normals)
    points = rays[:, :3] + rays[:, 3:] * hits.distance[:, None]
    metres = hits.distance * np.linalg.norm(rays[:, 3:], axis=1)
    base = albedo(table, row, uv, hits.face, metres)
    lifted = points + _LIFT * normals
    irradiance = _sunlight(scene, lifted, normals, threads)
    irradiance += _ambient(scene, lifted, normals, rng, threads)
    for lamp in light.lamps:
        irradiance += _lamplight(scene, np.array(lamp), lifted, normals, threads)
    color = base * irradiance + table['emission'][row][:, None]
    _reflect(scene, color, unit, normals, row)
    haze = np.exp(-metres / light.haze_m)[:, None]
    return color * haze + np.array(light.horizon) * (1 - haze)


def _sunlight(scene: Scene, points: np.ndarray, normals: np.ndarray, threads: int) -> np.ndarray:
    sun = np.array(scene.light.sun_direction, np.float32)
    power = np.array(scene.light.sun_color, np.float32)
    cosine = np.clip(normals @ sun, 0, None).astype(np.float32)
    lit = np.flatnonzero(cosine > 0) if power.max() > 0 else np.zeros(0, int)
    if len(lit):
        rays = np.concatenate([points[lit], np.broadcast_to(sun, (len(lit), 3))], 1)
        cosine[lit[scene.blocked(rays.astype(np.float32), np.inf, threads)]] = 0
    return cosine[:, None] * power


def _ambient(
    scene: Scene, points: np.ndarray, normals: np.ndarray, rng: np.random.Generator, threads: int
) -> np.ndarray:
    """Light of the sky and of the ground, less in corners: one short random ray for a pixel."""
    ambient = np.array(scene.light.ambient, np.float32)
    upward = 0.62 + 0.38 * normals[:, 2:]
    direction = rng.normal(size=points.shape).astype(np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction += 1.05 * normals
    chosen = np.arange(0, len(points), 3)
    rays = np.concatenate([points[chosen], direction[chosen]], 1).astype(np.float32)
    shut = scene.blocked(rays, 1.2, threads).astype(np.float32)
    # Neighbours along the row share their rays; a short running mean hides the noise.
    shut = np.convolve(shut, np.full(7, 1 / 7, np.float32), mode='same')
    return ambient * upward * (1 - 0.75 * np.repeat(shut, 3)[: len(points), None])


def _lamplight(
    scene: Scene, lamp: np.ndarray, points: np.ndarray, normals: np.ndarray, threads: int
) -> np.ndarray:
    to_lamp = (lamp - points).astype(np.float32)
    squared = (to_lamp**2).sum(1)
    cosine = np.clip((to_lamp * normals).sum(1) / np.sqrt(squared + 1e-6), 0, None)
    rays = np.concatenate([points, to_lamp * 0.97], 1).astype(np.float32)
    cosine[scene.blocked(rays, 1.0, threads)] = 0
    warm = np.array([1.0, 0.85, 0.65], np.float32)
    return (2.2 * cosine / (squared + 0.5))[:, None] * warm


def _reflect(
    scene: Scene, color: np.ndarray, unit: np.ndarray, normals: np.ndarray, row: np.ndarray
) -> None:
    """Add mirror images of sky and skyline on glossy surfaces, in place."""
    gloss = scene.materials['gloss'][row]
    index = np.flatnonzero(gloss > 0)
    if not len(index):
        return
    d, n = unit[index], normals[index]
    cosine = np.clip(-(d * n).sum(1), 0, 1)
    mirrored = d + 2 * cosine[:, None] * n
    share = gloss[index] + (1 - gloss[index]) * (1 - cosine) ** 5
    bright = sky(scene.light, mirrored)
    azimuth = np.arctan2(mirrored[:, 1], mirrored[:, 0])
    skyline = 0.08 + 0.5 * (fractal(azimuth * 160, np.full_like(azimuth, 7.0)) - 0.3)
    ground = np.array(scene.light.ambient) * 0.35
    bright = np.where((mirrored[:, 2] > skyline)[:, None], bright, ground)
    share = np.minimum(share, 0.9)[:, None]
    color[index] = color[index] * (1 - share) + np.minimum(bright, 4.0) * share


def develop(
    linear: np.ndarray, met: np.ndarray, light: Light, rng: np.random.Generator
) -> np.ndarray:
    """Camera response: linear radiance (H, W, 3) to rgb uint8; met marks what is not sky."""
    height, width = met.shape
    sample = linear[::4, ::4][met[::4, ::4]] if met[::4, ::4].any() else linear.reshape(-1, 3)
    exposure = light.key / max(float(np.percentile(sample.mean(1), 60)), 1e-4)
    y = np.linspace(-1, 1, height)[:, None] * height / width
    x = np.linspace(-1, 1, width)[None]
    shade = 1 - light.vignette * (x**2 + y**2) / 1.3
    image = linear * (exposure * shade[..., None] * np.array(light.white_balance)).astype(
        np.float32
    )
    if light.blur_px > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), light.blur_px)
    noise = rng.standard_normal(image.shape, np.float32)
    image += noise * light.noise * np.sqrt(np.clip(image, 0, 1) + 0.02)
    image = np.clip(image, 0, 1) ** np.float32(1 / light.gamma)
    return (image * 255 + 0.5).astype(np.uint8)
