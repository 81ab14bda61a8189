"""What DROID-SLAM's Python code imports from its CUDA extensions, in plain PyTorch.

With `on_cpu()` its own, unchanged code runs on a machine without CUDA: slowly, for checks. Modules
of the names that it imports stand in for `lietorch`, `droid_backends` and `torch_scatter`, tensors
and networks that it sends to CUDA stay on the CPU, and half precision becomes single.

Poses are T_camera_world as (x, y, z, qx, qy, qz, qw). Equations: Teed and Deng, "DROID-SLAM",
NeurIPS 2021, section 3.3 and its appendix; Sola et al., "A micro Lie theory", 2018, for SE(3).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

# As in DROID-SLAM's kernels: share of the flow's weight, weight of a sensor's disparity, nearest
# depth at which a point still counts, and how many points must count for two frames to be near.
FLOW_WEIGHT = 0.001
SENSOR_WEIGHT = 0.05
_MIN_DEPTH = 0.25
_MIN_SEEN = 0.75
_APART = 1000.0
# Below, series are more exact in single precision.
_SMALL_ANGLE = 0.02


# ---------------------------------------------------------------------------- lietorch


def _cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cross(*torch.broadcast_tensors(a, b), dim=-1)


def _rotate(q: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Vectors (..., 3) turned by unit quaternions (..., 4), real part last."""
    twice = 2 * _cross(q[..., :3], x)
    return x + q[..., 3:] * twice + _cross(q[..., :3], twice)


def _multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product of quaternions (..., 4), real part last."""
    va, wa, vb, wb = a[..., :3], a[..., 3:], b[..., :3], b[..., 3:]
    vector = wa * vb + wb * va + _cross(va, vb)
    return torch.cat([vector, wa * wb - (va * vb).sum(-1, keepdim=True)], -1)


class SE3:
    """Rigid motions, `data` (..., 7): what lietorch's class does on DROID-SLAM's way."""

    def __init__(self, data: torch.Tensor) -> None:
        self.data = data

    @classmethod
    def Identity(cls, *shape: int) -> SE3:
        """Motions that move nothing."""
        return cls(torch.tensor([0.0, 0, 0, 0, 0, 0, 1]).repeat(*shape, 1))

    @classmethod
    def exp(cls, xi: torch.Tensor) -> SE3:
        """Motion of a twist (..., 6), translation first."""
        tau, phi = xi.split([3, 3], -1)
        angle = phi.norm(dim=-1, keepdim=True)
        near = angle < _SMALL_ANGLE
        safe = torch.where(near, torch.ones_like(angle), angle)
        once, twice = _cross(phi, tau), _cross(phi, _cross(phi, tau))
        a = torch.where(near, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
        b = torch.where(near, 1 / 6 - angle**2 / 120, (safe - safe.sin()) / safe**3)
        imaginary = torch.where(near, 0.5 - angle**2 / 48, (safe / 2).sin() / safe)
        return cls(torch.cat([tau + a * once + b * twice, imaginary * phi, (angle / 2).cos()], -1))

    def log(self) -> torch.Tensor:
        """Twist (..., 6), translation first."""
        t, q = self.data.split([3, 4], -1)
        q = torch.where(q[..., 3:] < 0, -q, q)
        sine = q[..., :3].norm(dim=-1, keepdim=True)
        angle = 2 * torch.atan2(sine, q[..., 3:])
        near = angle < _SMALL_ANGLE
        safe = torch.where(near, torch.ones_like(angle), angle)
        safe_sine = torch.where(near, torch.ones_like(sine), sine)
        phi = torch.where(near, 2 + angle**2 / 12, angle / safe_sine) * q[..., :3]
        c = torch.where(near, 1 / 12 + angle**2 / 720, _inverse_left_jacobian(safe))
        once = _cross(phi, t)
        return torch.cat([t - 0.5 * once + c * _cross(phi, once), phi], -1)

    def inv(self) -> SE3:
        """The way back."""
        t, q = self.data.split([3, 4], -1)
        back = torch.cat([-q[..., :3], q[..., 3:]], -1)
        return SE3(torch.cat([-_rotate(back, t), back], -1))

    def __mul__(self, other: SE3 | torch.Tensor) -> SE3 | torch.Tensor:
        """Composition, or homogeneous points (..., 4) moved."""
        t, q = self.data.split([3, 4], -1)
        if isinstance(other, SE3):
            t_other, q_other = other.data.split([3, 4], -1)
            return SE3(torch.cat([t + _rotate(q, t_other), _multiply(q, q_other)], -1))
        moved = _rotate(q, other[..., :3]) + t * other[..., 3:]
        return torch.cat([moved, other[..., 3:].expand(*moved.shape[:-1], 1)], -1)

    def __getitem__(self, index: object) -> SE3:
        return SE3(self.data[index])


def _inverse_left_jacobian(angle: torch.Tensor) -> torch.Tensor:
    """Factor of the second cross product, angle > 0."""
    half = angle / 2
    return (1 - half * half.cos() / half.sin()) / angle**2


def _cat(groups: list[SE3], dim: int) -> SE3:
    return SE3(torch.cat([group.data for group in groups], dim))


# ---------------------------------------------------------------------------- torch_scatter


def scatter_mean(source: torch.Tensor, index: torch.Tensor, dim: int) -> torch.Tensor:
    """Mean over the entries along `dim` that share an index."""
    shape = list(source.shape)
    shape[dim] = int(index.max()) + 1
    total = source.new_zeros(shape).index_add_(dim, index, source)
    count = torch.bincount(index).view([-1 if d == dim else 1 for d in range(len(shape))])
    return total / count


# ---------------------------------------------------------------------------- droid_backends


def corr_index_forward(
    volume: torch.Tensor, coords: torch.Tensor, radius: int
) -> tuple[torch.Tensor]:
    """Correlation around where each pixel went.

    volume (N, H, W, H2, W2), coords (N, 2, H, W): x and y in the last two. Returns
    (N, 2r+1, 2r+1, H, W), offsets in x before those in y, 0 outside.
    """
    count, height, width, high, wide = volume.shape
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    x = coords[:, 0, None, None] + offsets[:, None, None, None]
    y = coords[:, 1, None, None] + offsets[None, :, None, None]
    x, y = torch.broadcast_tensors(x, y)
    # Pixel centres as grid_sample counts them: -1 and 1 are the outer edges.
    grid = torch.stack([(2 * x + 1) / wide - 1, (2 * y + 1) / high - 1], -1)
    side = 2 * radius + 1
    grid = grid.permute(0, 3, 4, 1, 2, 5).reshape(-1, side, side, 2)
    sampled = F.grid_sample(volume.reshape(-1, 1, high, wide), grid, align_corners=False)
    return (sampled.view(count, height, width, side, side).permute(0, 3, 4, 1, 2).contiguous(),)


def altcorr_forward(
    fmap1: torch.Tensor,
    fmap2: torch.Tensor,
    coords: torch.Tensor,
    ii: torch.Tensor,
    jj: torch.Tensor,
    radius: int,
) -> tuple[torch.Tensor]:
    """`corr_index_forward` of feature maps (1, N, C, H, W) of frames ii and jj (M,).

    coords (1, M, 2, H, W). Returns (1, M, 2r+1, 2r+1, H, W).
    """
    first, second = fmap1[0, ii] / 4, fmap2[0, jj] / 4
    volume = torch.einsum('mchw,mcyx->mhwyx', first, second)
    return (corr_index_forward(volume, coords[0], radius)[0][None],)


def _rays(shape: tuple[int, int], intrinsics: torch.Tensor) -> torch.Tensor:
    """Rays (H, W, 3) with z = 1."""
    fx, fy, cx, cy = intrinsics
    sides = (torch.arange(side, dtype=torch.float32) for side in shape)
    y, x = torch.meshgrid(*sides, indexing='ij')
    return torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], -1)


def _pixels(points: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    fx, fy, cx, cy = intrinsics
    x, y, z = points.unbind(-1)
    return torch.stack([fx * x / z + cx, fy * y / z + cy], -1)


def frame_distance(
    poses: torch.Tensor,
    disps: torch.Tensor,
    intrinsics: torch.Tensor,
    ii: torch.Tensor,
    jj: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Mean flow (M,), pixels, from frames ii to jj: beta of it by the whole motion, the rest by
    the translation alone; 1000 where too little is seen in both.
    """
    rays = _rays(disps.shape[1:], intrinsics)
    start = _pixels(rays, intrinsics)
    motion = (SE3(poses)[jj] * SE3(poses)[ii].inv()).data[:, None, None]
    carried = motion[..., :3] * disps[ii, ..., None]
    flow, seen = torch.zeros(len(ii)), torch.zeros(len(ii))
    for share, points in (
        (beta, _rotate(motion[..., 3:], rays) + carried),
        (1 - beta, rays + carried),
    ):
        counts = points[..., 2] > _MIN_DEPTH
        length = (_pixels(points, intrinsics) - start).norm(dim=-1)
        flow += share * torch.where(counts, length, 0).sum((1, 2))
        seen += share * counts.float().sum((1, 2))
    return torch.where(seen < _MIN_SEEN * start[..., 0].numel(), _APART, flow / seen)


def ba(
    poses: torch.Tensor,
    disps: torch.Tensor,
    intrinsics: torch.Tensor,
    disps_sens: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    eta: torch.Tensor,
    ii: torch.Tensor,
    jj: torch.Tensor,
    t0: int,
    t1: int,
    iterations: int,
    lm: float,
    ep: float,
    motion_only: bool,
) -> None:
    """Dense bundle adjustment, in place: poses (N, 7) from t0 up to t1, and disparity (N, H, W)
    of the frames in ii.

    disps_sens: disparity that a sensor measured, 0 = none; it holds the disparity with the weight
    0.05. targets, weights (M, 2, H, W): where each edge's pixels went, and how sure that is. eta
    (frames in ii, H, W): damping of the disparity where no sensor holds it.
    """
    frames = torch.unique(ii)
    slots = torch.searchsorted(frames, ii)
    _check_adjustment(poses, disps, intrinsics, disps_sens, targets, weights, eta, ii, jj)
    for _ in range(iterations):
        system = _linearize(poses, disps, intrinsics, targets, weights, ii, jj)
        count, size = t1 - t0, 6 * (t1 - t0)
        H, v = _pose_blocks(system, ii - t0, jj - t0, count)
        if motion_only:
            poses[t0:t1] = _moved(poses[t0:t1], _solve(H, v, lm, ep))
            continue
        E = _mixed_blocks(system, ii - t0, jj - t0, slots, count, len(frames))
        shape = len(frames), -1
        known, wanted = disps_sens[frames].flatten(1), disps[frames].flatten(1)
        held = SENSOR_WEIGHT * (known > 0)
        C = torch.zeros_like(known).index_add_(0, slots, system.C)
        C += torch.where(known > 0, held, eta.reshape(shape))
        w = torch.zeros_like(known).index_add_(0, slots, system.w) + held * (known - wanted)
        E, C, w = E.reshape(size, -1), C.flatten(), w.flatten()
        step = _solve(H - (E / C) @ E.T, v - E @ (w / C), lm, ep)
        change = (w - E.T @ step.flatten()) / C
        poses[t0:t1] = _moved(poses[t0:t1], step)
        disps[frames] += change.view(disps[frames].shape)


def _check_adjustment(poses, disps, intrinsics, disps_sens, targets, weights, eta, ii, jj) -> None:
    """RuntimeError for what the CUDA kernels would refuse or misread."""
    count, height, width = disps.shape
    edges = len(ii), 2, height, width
    expected = {
        'poses': (poses, (count, 7), torch.float32),
        'intrinsics': (intrinsics, (4,), torch.float32),
        'disps_sens': (disps_sens, (count, height, width), torch.float32),
        'targets': (targets, edges, torch.float32),
        'weights': (weights, edges, torch.float32),
        'eta': (eta, (len(torch.unique(ii)), height, width), torch.float32),
        'jj': (jj, (len(ii),), torch.int64),
    }
    for name, (value, shape, dtype) in expected.items():
        if tuple(value.shape) != shape or value.dtype != dtype or not value.is_contiguous():
            raise RuntimeError(
                f'ba: {name}: expected contiguous {dtype} {shape}, got {value.dtype} '
                f'{tuple(value.shape)}'
            )


class _System:
    """One linearization: for M edges and P pixels, Jacobians and residuals, weighted."""

    def __init__(self, Ji, Jj, Jz, residual, weight) -> None:
        self.hessians = {
            (a, b): torch.einsum('mpkx,mpk,mpky->mxy', A, weight, B)
            for a, A in (('i', Ji), ('j', Jj))
            for b, B in (('i', Ji), ('j', Jj))
        }
        weighted = weight * residual
        self.vi = torch.einsum('mpkx,mpk->mx', Ji, weighted)
        self.vj = torch.einsum('mpkx,mpk->mx', Jj, weighted)
        self.Ei = torch.einsum('mpkx,mpk->mxp', Ji, weight * Jz)
        self.Ej = torch.einsum('mpkx,mpk->mxp', Jj, weight * Jz)
        self.C, self.w = (weight * Jz**2).sum(-1), (weighted * Jz).sum(-1)


def _linearize(poses, disps, intrinsics, targets, weights, ii, jj) -> _System:
    fx, fy, _, _ = intrinsics
    motion = (SE3(poses)[jj] * SE3(poses)[ii].inv()).data[:, None]
    rays, d = _rays(disps.shape[1:], intrinsics).view(1, -1, 3), disps[ii].flatten(1)
    points = _rotate(motion[..., 3:], rays) + motion[..., :3] * d[..., None]
    seen = points[..., 2] >= _MIN_DEPTH
    x, y, z = torch.where(seen[..., None], points, points.new_ones(3)).unbind(-1)
    zero = torch.zeros_like(x)
    project = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * x / z**2], -1),
            torch.stack([zero, fy / z, -fy * y / z**2], -1),
        ],
        -2,
    )
    turned = -torch.stack(
        [
            torch.stack([zero, -z, y], -1),
            torch.stack([z, zero, -x], -1),
            torch.stack([-y, x, zero], -1),
        ],
        -2,
    )
    Jj = torch.cat([project * d[..., None, None], project @ turned], -1)
    Ji = -Jj @ _adjoint(motion)
    Jz = (project @ motion[..., :3, None]).squeeze(-1)
    residual = targets.flatten(2).transpose(1, 2) - _pixels(torch.stack([x, y, z], -1), intrinsics)
    weight = FLOW_WEIGHT * weights.flatten(2).transpose(1, 2) * seen[..., None]
    return _System(Ji, Jj, Jz, residual, weight)


def _adjoint(motion: torch.Tensor) -> torch.Tensor:
    """(..., 6, 6): what carries a twist before the motion to one after it."""
    t, q = motion.split([3, 4], -1)
    columns = torch.eye(3).expand(*q.shape[:-1], 3, 3)
    R = _rotate(q[..., None, :], columns).transpose(-1, -2)
    tR = _cross(t[..., None, :], R.transpose(-1, -2)).transpose(-1, -2)
    top, bottom = torch.cat([R, tR], -1), torch.cat([torch.zeros_like(R), R], -1)
    return torch.cat([top, bottom], -2)


def _pose_blocks(system: _System, i, j, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    H, v = torch.zeros(count, count, 6, 6), torch.zeros(count, 6)
    index = {'i': i, 'j': j}
    for (a, b), block in system.hessians.items():
        rows, columns = index[a], index[b]
        free = (rows >= 0) & (rows < count) & (columns >= 0) & (columns < count)
        H.index_put_((rows[free], columns[free]), block[free], accumulate=True)
    for rows, part in ((i, system.vi), (j, system.vj)):
        free = (rows >= 0) & (rows < count)
        v.index_put_((rows[free],), part[free], accumulate=True)
    return H.transpose(1, 2).reshape(6 * count, 6 * count), v.flatten()


def _mixed_blocks(system: _System, i, j, slots, count: int, frames: int) -> torch.Tensor:
    E = torch.zeros(count, frames, *system.Ei.shape[1:])
    for rows, block in ((i, system.Ei), (j, system.Ej)):
        free = (rows >= 0) & (rows < count)
        E.index_put_((rows[free], slots[free]), block[free], accumulate=True)
    return E.transpose(1, 2).contiguous()


def _solve(H: torch.Tensor, v: torch.Tensor, lm: float, ep: float) -> torch.Tensor:
    """Steps (poses, 6); none where the system has no solution."""
    H = H.double()
    factor, failed = torch.linalg.cholesky_ex(H + torch.diag(ep + lm * H.diagonal()))
    if failed:
        return torch.zeros(len(v) // 6, 6)
    return torch.cholesky_solve(v.double()[:, None], factor).float().view(-1, 6)


def _moved(poses: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    return (SE3.exp(steps) * SE3(poses)).data


# ---------------------------------------------------------------------------- placement


class _Placement(TorchFunctionMode):
    """CUDA becomes the CPU, and half precision single."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.cuda:
            return args[0]
        args = tuple(_placed(value) for value in args)
        return function(*args, **{name: _placed(value) for name, value in kwargs.items()})


def _placed(value: object) -> object:
    if value is torch.half:
        return torch.float32
    if isinstance(value, str) and value.startswith('cuda'):
        return 'cpu'
    if isinstance(value, torch.device) and value.type == 'cuda':
        return torch.device('cpu')
    return value


def _module(name: str, **contents: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    return module


# What only training calls is None. DROID-SLAM's modules, once imported, keep these.
_BACKENDS = _module(
    'droid_backends',
    ba=ba,
    frame_distance=frame_distance,
    corr_index_forward=corr_index_forward,
    altcorr_forward=altcorr_forward,
)
_STAND_INS = (
    _BACKENDS,
    _module('lietorch', SE3=SE3, Sim3=None, SO3=None, cat=_cat),
    _module('torch_scatter', scatter_mean=scatter_mean, scatter_sum=None),
)


@contextmanager
def on_cpu() -> Iterator[ModuleType]:
    """DROID-SLAM's modules can be imported and run inside; its extensions need not be there.

    Yields the module in the place of `droid_backends`.
    """
    hidden = {m.__name__: sys.modules.get(m.__name__) for m in _STAND_INS}
    sys.modules.update({module.__name__: module for module in _STAND_INS})
    try:
        with warnings.catch_warnings(), _Placement():
            warnings.filterwarnings('ignore', message='.*CUDA is not available.*')
            yield _BACKENDS
    finally:
        for name, module in hidden.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
