"""Runs ORB-SLAM3 (Campos et al., T-RO 2021) on TUM sequences, in a separate environment.

It is GPL-3: the wheel pywrapped_orbslam3 stays outside this project, in its own virtual
environment and process, and the two only exchange files and lines of text.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# It brings OpenCV and NumPy.
REQUIREMENT = 'pywrapped_orbslam3==1.4.6'
# Libraries of the wheel to replace by those of the system: the two sets do not mix.
_GL = ('libGLdispatch', 'libGLX', 'libOpenGL')
_HERE = Path(__file__).parent
# This build of ORB-SLAM3 has dense mapping, and exits without these settings.
_MORE_SETTINGS = """DenseMapping.on: 1
DenseMapping.gridSize: 0.5
DenseMapping.map2D: 0
DenseMapping.camHeight: 1.5
DenseMapping.maxRange: 40.0
DenseMapping.simpleGround: 0
"""


class OrbSlam3Error(RuntimeError):
    """The environment lacks something, or ORB-SLAM3 ended early; the text says which."""


@dataclass(frozen=True)
class Track:
    """frames: numbers of those with a pose; poses: T_world_camera (4, 4) of each, m, in a unit of
    its own without depth; maps: the number of the map, from 0, in which each has its pose."""

    frames: tuple[int, ...]
    poses: tuple[np.ndarray, ...]
    maps: tuple[int, ...]


class OrbSlam3:
    """The environment in `folder`, created if it is missing (`make`), and patched for use.

    Raises OrbSlam3Error naming what is missing: the wheel, a C compiler, a GL library.
    """

    def __init__(self, folder: Path, make: bool = True) -> None:
        self._python = folder.absolute() / 'bin/python'
        if make and not self._python.exists():
            venv.create(folder, with_pip=True)
            self._run([self._python, '-m', 'pip', 'install', '--quiet', REQUIREMENT])
        packages = next(iter(folder.glob('lib/python3*/site-packages')), folder)
        if not (packages / 'pywrapped_orbslam3').is_dir():
            raise OrbSlam3Error(f'{folder}: expected an environment with {REQUIREMENT}')
        self._use_system_gl(packages / 'pywrapped_orbslam3.libs')
        self._preload = folder.absolute() / 'aligned_malloc.so'
        if not self._preload.exists():
            compiler = shutil.which('cc')
            if compiler is None:
                raise OrbSlam3Error(
                    'expected a C compiler (apt install gcc libc6-dev), found none'
                )
            options = ['-O2', '-shared', '-fPIC', '-fno-builtin', '-o', self._preload]
            self._run([compiler, *options, _HERE / 'aligned_malloc.c'])

    def track(
        self, sequence: Path, vocabulary: Path, pause_s: float = 0.05, sensor: str = 'RGBD'
    ) -> Track:
        """Track a folder of `TumWriter`. pause_s: after each frame, for the threads that map.

        sensor: 'RGBD', or 'MONOCULAR' to leave the depth aside.
        """
        settings = sequence / 'orbslam3.yaml'
        if 'DenseMapping' not in settings.read_text():
            settings.write_text(settings.read_text() + _MORE_SETTINGS)
        worker = [self._python, _HERE / 'orbslam3_worker.py', sequence, vocabulary]
        worker += [str(pause_s), sensor]
        environment = {**os.environ, 'LD_PRELOAD': str(self._preload)}
        environment.pop('PYTHONPATH', None)
        log = sequence / 'orbslam3.log'
        with log.open('wb') as errors:
            process = subprocess.Popen(
                worker, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
            )
            try:
                return read_track(process.stdout)
            except OrbSlam3Error as error:
                code, last = process.wait(), log.read_text(errors='replace').strip()[-300:]
                raise OrbSlam3Error(f'{sequence}: {error}, with code {code}: {last}') from error
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    def _use_system_gl(self, libraries: Path) -> None:
        for name in _GL:
            for bundled in libraries.glob(f'{name}-*'):
                if bundled.is_symlink() and bundled.exists():
                    continue
                found = [
                    path
                    for folder in ('lib', 'lib/*-linux-gnu', 'lib64')
                    for path in Path('/usr').glob(f'{folder}/{name}.so.0')
                ]
                if not found:
                    raise OrbSlam3Error(
                        f'expected the system to have {name}.so.0: '
                        'apt install libgl1 libegl1 libopengl0'
                    )
                bundled.unlink()
                bundled.symlink_to(found[0])

    @staticmethod
    def _run(command: list) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OrbSlam3Error(f'{command[0]} failed: {done.stderr.strip()[-300:]}')


def read_track(lines: Iterable[str]) -> Track:
    """The trajectory from the worker's output; OrbSlam3Error if it ends early."""
    frames, poses, maps = [], [], []
    latest, without_map = -1, True
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise OrbSlam3Error(f'expected JSON from the worker, got {line[:80]!r}') from error
        if 'end' in found:
            return Track(tuple(frames), tuple(poses), tuple(maps))
        if found['pose'] is None:
            # Two frames make a map without depth, and the first of them has no pose.
            without_map |= found['state'] == 'NOT_INITIALIZED'
            continue
        pose = np.array(found['pose']).reshape(4, 4)
        # With depth a single frame does, and it is the origin.
        latest += without_map or bool((pose == np.eye(4)).all())
        without_map = False
        frames.append(found['frame'])
        poses.append(np.linalg.inv(pose))
        maps.append(latest)
    raise OrbSlam3Error('ORB-SLAM3 exited before the end of the sequence')
