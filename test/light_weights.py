"""Weights of the light network for tests."""

from pathlib import Path

import torch

from dmd3c_ros.core import networks


def save_light(path: Path, seed: int, **more: object) -> Path:
    """A checkpoint of a light network whose heads, which begin at zero, answer to their input."""
    torch.manual_seed(seed)
    network = networks.build('light')
    for head in (network.coarse_head, network.fine_head):
        torch.nn.init.normal_(head.weight, std=0.05)
    torch.save({'net': network.state_dict(), **more}, path)
    return path
