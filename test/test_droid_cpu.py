"""The stand-ins for DROID-SLAM's CUDA extensions do what its Python code takes them to do."""

import sys

import pytest
import torch

from dmd3c_ros.slam import droid_cpu
from dmd3c_ros.slam.droid_cpu import SE3

INTRINSICS = torch.tensor([20.0, 21, 15.5, 9.5])
SHAPE = 20, 32
II, JJ = torch.tensor([0, 1, 1, 2, 0, 2]), torch.tensor([1, 0, 2, 1, 2, 0])


def matrix(motion: SE3) -> torch.Tensor:
    """(..., 4, 4) by what the motion does to homogeneous points."""
    return (SE3(motion.data[..., None, :]) * torch.eye(4)).transpose(-1, -2)


def twists(scale: float, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(count, 6, generator=generator)


@pytest.mark.parametrize('scale', [1e-7, 1e-3, 0.5])
def test_motions_are_the_exponentials_of_their_twists(scale):
    xi = twists(scale)
    tau, (a, b, c) = xi[:, :3], xi[:, 3:].T
    generators = torch.zeros(len(xi), 4, 4)
    generators[:, 0, 1], generators[:, 0, 2], generators[:, 1, 2] = -c, b, -a
    generators[:, 1, 0], generators[:, 2, 0], generators[:, 2, 1] = c, -b, a
    generators[:, :3, 3] = tau
    motion = SE3.exp(xi)
    torch.testing.assert_close(matrix(motion), torch.matrix_exp(generators), rtol=0, atol=1e-6)
    torch.testing.assert_close(motion.log(), xi, rtol=1e-4, atol=1e-6 * min(1, scale))
    # A quaternion and its negative are one rotation.
    other = torch.cat([motion.data[:, :3], -motion.data[:, 3:]], -1)
    torch.testing.assert_close(SE3(other).log(), xi, rtol=1e-4, atol=1e-6 * min(1, scale))


def test_motions_compose_and_invert_as_matrices():
    a, b = SE3.exp(twists(0.5)), SE3.exp(twists(0.8).flip(0))
    torch.testing.assert_close(matrix(a * b), matrix(a) @ matrix(b), atol=1e-5, rtol=0)
    torch.testing.assert_close(matrix(a * a.inv()), torch.eye(4).expand(3, 4, 4))
    assert SE3.Identity(1).data.tolist() == [[0, 0, 0, 0, 0, 0, 1]]
    assert a[None].data.shape == (1, 3, 7) and a[1:].data.shape == (2, 7)


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Poses (3, 7), disparity (3, H, W) and where each edge's pixels went (6, 2, H, W)."""
    generator = torch.Generator().manual_seed(2)
    disps = 0.1 + 0.3 * torch.rand(3, *SHAPE, generator=generator)
    xi = torch.tensor([[0.0] * 6, [0.3, 0, -0.2, 0, 0.02, 0], [0.5, 0.1, -0.5, 0.01, 0.03, 0.02]])
    poses = SE3.exp(xi).data
    return poses, disps, targets(poses, disps)


def targets(poses: torch.Tensor, disps: torch.Tensor) -> torch.Tensor:
    fx, fy, cx, cy = INTRINSICS
    found = []
    for i, j in zip(II, JJ, strict=True):
        y, x = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing='ij')
        depth = 1 / disps[i]
        points = torch.stack([(x - cx) / fx * depth, (y - cy) / fy * depth, depth], -1).view(-1, 3)
        T = matrix(SE3(poses[j]) * SE3(poses[i]).inv())
        u, v, z = (points @ T[:3, :3].T + T[:3, 3]).T
        found.append(torch.stack([fx * u / z + cx, fy * v / z + cy]).view(2, *SHAPE))
    return torch.stack(found)


def adjust(poses, disps, sensed, flow, motion_only=False, **changed) -> None:
    arguments = {
        'weights': torch.ones_like(flow),
        'eta': torch.full((3, *SHAPE), 1e-6),
        **changed,
    }
    for _ in range(12):
        droid_cpu.ba(
            *(poses, disps, INTRINSICS, sensed, flow, arguments['weights'], arguments['eta']),
            *(II, JJ, 1, 3, 2, 1e-4, 1e-6, motion_only),
        )


def test_bundle_adjustment_finds_poses_and_the_depth_of_pixels_without_a_sensor():
    poses, disps, flow = scene()
    sensed = disps.clone()
    sensed[:, :, ::2] = 0
    found_poses, found = SE3.Identity(3).data, torch.ones_like(disps)
    adjust(found_poses, found, sensed, flow)
    torch.testing.assert_close(found_poses, poses, atol=2e-3, rtol=0)
    # Around the point that the camera moves to, flow says nothing of depth.
    close = (found - disps).abs() < 5e-3
    assert close[:, :, 1::2].all() and close.float().mean() > 0.99


def test_the_sensor_sets_the_scale_of_the_bundle_adjustment():
    poses, disps, flow = scene()
    found_poses, found = SE3.Identity(3).data, torch.ones_like(disps)
    adjust(found_poses, found, disps / 2, flow)
    torch.testing.assert_close(found, disps / 2, atol=5e-3, rtol=0)
    torch.testing.assert_close(found_poses[:, :3], 2 * poses[:, :3], atol=5e-3, rtol=0)


def test_a_sensor_that_is_wrong_yields_to_the_flow_by_its_weight():
    poses, disps, flow = scene()
    sensed = disps.clone()
    sensed[0, 5, 7] *= 2
    found = disps.clone()
    moved = poses.clone()
    adjust(moved, found, sensed, flow)
    between = found[0, 5, 7] / disps[0, 5, 7]
    assert 1.01 < between < 1.99
    found, eta = disps.clone(), torch.full((3, *SHAPE), 1e-6)
    adjust(poses.clone(), found, sensed, flow, weights=1000 * torch.ones_like(flow), eta=eta)
    assert found[0, 5, 7] / disps[0, 5, 7] < between


def test_poses_alone_are_adjusted_where_depth_is_to_stay():
    poses, disps, flow = scene()
    found_poses, kept = SE3.Identity(3).data, disps.clone()
    adjust(found_poses, kept, torch.zeros_like(disps), flow, motion_only=True)
    torch.testing.assert_close(found_poses, poses, atol=1e-3, rtol=0)
    assert torch.equal(kept, disps)


def test_bundle_adjustment_refuses_what_the_kernels_would_misread():
    poses, disps, flow = scene()
    with pytest.raises(RuntimeError, match=r'ba: targets: expected contiguous torch.float32 \(6,'):
        adjust(poses, disps, disps, flow.transpose(-1, -2))
    with pytest.raises(RuntimeError, match=r'ba: eta: .*\(3, 20, 32\), got .*\(2, 20, 32\)'):
        adjust(poses, disps, disps, flow, eta=torch.ones(2, *SHAPE))
    with pytest.raises(RuntimeError, match=r'ba: disps_sens: .*float64'):
        adjust(poses, disps, disps.double(), flow)


def test_the_distance_of_frames_is_their_mean_flow():
    poses, disps, flow = scene()
    y, x = torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing='ij')
    expected = (flow - torch.stack([x, y])).norm(dim=1).mean((1, 2))
    found = droid_cpu.frame_distance(poses, disps, INTRINSICS, II, JJ, 1.0)
    torch.testing.assert_close(found, expected)
    # The rest is of the translation without the rotation.
    still = poses.clone()
    still[:, :3] = 0
    assert droid_cpu.frame_distance(still, disps, INTRINSICS, II, JJ, 0.0).abs().max() < 1e-5
    behind = poses.clone()
    behind[1, 2] = -20
    assert droid_cpu.frame_distance(behind, disps, INTRINSICS, II[:1], JJ[:1], 0.5) == 1000


def test_correlation_is_looked_up_around_where_pixels_went():
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(1, 2, 8, 6, 9, generator=generator)
    ii, jj = torch.tensor([0]), torch.tensor([1])
    coords = torch.zeros(1, 1, 2, 6, 9)
    coords[0, 0, 0, 2, 3], coords[0, 0, 1, 2, 3] = 4, 1.5
    (corr,) = droid_cpu.altcorr_forward(maps, maps, coords, ii, jj, 3)
    assert corr.shape == (1, 1, 7, 7, 6, 9)
    a, b = maps[0, 0, :, 2, 3] / 4, maps[0, 1] / 4
    # Offset 2 in x before offset 1 in y, between two rows.
    expected = a @ (b[:, 2, 6] + b[:, 3, 6]) / 2
    torch.testing.assert_close(corr[0, 0, 5, 4, 2, 3], expected)
    assert corr[0, 0, :, 0, 0, 0].abs().max() == 0
    volume = torch.einsum('chw,cyx->hwyx', maps[0, 0] / 4, b)[None]
    (same,) = droid_cpu.corr_index_forward(volume, coords[0], 3)
    torch.testing.assert_close(same, corr[0])


def test_what_is_sent_to_cuda_stays_and_half_becomes_single():
    assert 'lietorch' not in sys.modules
    with droid_cpu.on_cpu() as backends:
        import droid_backends
        import lietorch
        from torch_scatter import scatter_mean

        assert droid_backends is backends and lietorch.SE3 is SE3
        made = torch.zeros(2, dtype=torch.half, device='cuda:0')
        assert (made.dtype, made.device.type) == (torch.float32, 'cpu')
        assert made.cuda() is made
        assert torch.nn.Linear(2, 2).to('cuda:0').weight.device.type == 'cpu'
        means = scatter_mean(torch.tensor([[1.0, 3, 5]]), torch.tensor([1, 0, 1]), dim=1)
        assert means.tolist() == [[3, 3]]
    assert 'lietorch' not in sys.modules
    assert torch.zeros(1, dtype=torch.half).dtype == torch.half
