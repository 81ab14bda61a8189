"""Settings of the demonstration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class DemoError(RuntimeError):
    """The demonstration could not be completed; the message says why."""


@dataclass(frozen=True)
class DemoConfig:
    """What is played, how it is completed, and where the results go.

    out: folder for the results, created if missing; results of an earlier run are replaced.
    kitti: KITTI raw drive to replay; None for a simulated drive.
    n_frames: maximum number of frames to play; 1 to 300, as the recording is held in memory.
    rate_hz: frames per second.
    seed, scene, lidar: the simulated drive, as sim_player names them.
    completion: options of the completer (model, weights, device, precision); empty for defaults.
    start_timeout_s: how long the node may take until it is active.
    render_timeout_s: how long the player may take until it publishes its first frame.
    silence_s: the drive is considered over when nothing has arrived for this long.
    """

    out: Path = Path('demo_out')
    kitti: Path | None = None
    n_frames: int = 60
    rate_hz: float = 10.0
    seed: int = 7
    scene: str = 'street'
    lidar: str = 'hdl64e'
    completion: Mapping[str, object] = field(default_factory=dict)
    start_timeout_s: float = 120.0
    render_timeout_s: float = 150.0
    silence_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.n_frames <= 300:
            raise DemoError(f'frames: expected 1 to 300, got {self.n_frames}')
        if not self.rate_hz > 0:
            raise DemoError(f'rate: expected a positive rate in Hz, got {self.rate_hz}')
        unknown = self.completion.keys() - {'model', 'weights', 'device', 'precision'}
        if unknown:
            raise DemoError(f'completion: unknown options {", ".join(sorted(unknown))}')
