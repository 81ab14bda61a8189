"""Tracks a TUM sequence with ORB-SLAM3. Run by `orbslam3.py` with the Python of an environment of
its own, which has pywrapped_orbslam3, OpenCV and NumPy, and nothing of this project.

python orbslam3_worker.py SEQUENCE VOCABULARY PAUSE SENSOR

SEQUENCE: folder with associations.txt and orbslam3.yaml. PAUSE: seconds from the end of a frame to
the next, in which ORB-SLAM3's threads that map get on. SENSOR: RGBD or MONOCULAR. Standard output
has one JSON object a line: {"frame": N, "state": "OK", "pose": 16 numbers} for each frame
(T_camera_world by rows, m; null where it has none), then {"end": true}; what ORB-SLAM3 prints goes
to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_TRACKED = ('OK', 'OK_KLT')


def track(
    system: Any, frames: list[tuple[float, Path, Path]], sensor: str, pause: float, read: Callable
) -> Iterator[dict]:
    """The lines' objects. frames: seconds, image, depth. read: an image file's array."""
    for number, (stamp, image, depth) in enumerate(frames):
        if sensor == 'MONOCULAR':
            system.process_image_mono(read(image), stamp)
        else:
            system.process_image_rgbd(read(image), read(depth), stamp)
        state = system.get_tracking_state().name
        tracked = state in _TRACKED
        pose = [float(value) for row in system.get_pose() for value in row] if tracked else None
        yield {'frame': number, 'state': state, 'pose': pose}
        time.sleep(pause)
    yield {'end': True}


def associations(sequence: Path) -> list[tuple[float, Path, Path]]:
    """Seconds, image and depth file of each frame."""
    lines = (sequence / 'associations.txt').read_text().splitlines()
    fields = [line.split() for line in lines]
    return [(float(field[0]), sequence / field[1], sequence / field[3]) for field in fields]


def main() -> None:
    """Track and print; an error ends with its message on standard error."""
    sequence, vocabulary, pause, sensor = Path(sys.argv[1]), *sys.argv[2:5]
    # ORB-SLAM3 prints to stdout from C++, so the output lines get their own descriptor.
    lines = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    import cv2
    from pywrapped_orbslam3 import Sensor, System

    system = System(vocabulary, str(sequence / 'orbslam3.yaml'), getattr(Sensor, sensor))
    system.set_use_viewer(False)
    if not system.initialize():
        raise SystemExit(f'ORB-SLAM3 failed to start with {vocabulary} and {sequence}')
    for line in track(
        system,
        associations(sequence),
        sensor,
        float(pause),
        lambda path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
    ):
        print(json.dumps(line), file=lines)
    lines.close()
    # Shutting its threads down can hang or crash; everything is written.
    os._exit(0)


if __name__ == '__main__':
    main()
