"""Settings of the middleware for messages of megabytes, as environment variables of a process."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from launch.logging import get_logger

# Fast DDS 2 (Humble, Jazzy) and 3 (Kilted) read one each.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
# Where Fast DDS has its segments, one of each process: the node, two drivers or a player, RViz.
_SHARED_MEMORY = Path('/dev/shm')
_PROCESSES = 4
_SIZE = re.compile(r'(?<=<segment_size>)\d+(?=</segment_size>)')
# A frame of everything that the node takes and gives, at 1216x352.
_LEAST_BYTES = 12 << 20


def environment(profile: str, own: Path) -> dict[str, str]:
    """Variables that have Fast DDS read a profile.

    profile: of the user's choice; 'none' for no profile at all; empty for the package's `own`,
    unless the user's environment names one. Where shared memory has no room for the segments of
    the package's profile, as in a container, they are made smaller, or left to Fast DDS.
    """
    if profile == 'none' or (not profile and any(map(os.environ.get, PROFILE_VARIABLES))):
        return {}
    path = Path(profile).expanduser().resolve() if profile else _fitting(own)
    return {} if path is None else dict.fromkeys(PROFILE_VARIABLES, str(path))


def _fitting(own: Path) -> Path | None:
    """The profile with segments that fit into shared memory."""
    text = own.read_text()
    requested = int(_SIZE.search(text).group())
    room = _room()
    size = room // _PROCESSES
    if size >= requested:
        return own
    # Launch's own logger: others have no level on the screen and miss in its log file. It takes
    # no arguments for the text.
    get_logger('launch.user').warning(
        f'{_SHARED_MEMORY} has room for {room >> 20} MB, {size >> 20} MB per process: messages of '
        'several megabytes may be lost (start the container with --shm-size=512m or --ipc=host)'
    )
    if size < _LEAST_BYTES:
        return None
    # One file for all launches of this user and size, for none of them knows when it is read.
    path = Path(tempfile.gettempdir()) / f'dmd3c_ros_fastdds_{os.getuid()}_{size >> 20}.xml'
    with tempfile.NamedTemporaryFile('w', dir=path.parent, delete=False) as file:
        file.write(_SIZE.sub(str(size >> 20 << 20), text))
    os.replace(file.name, path)
    return path


def _room() -> int:
    """Free bytes of shared memory; 0 if there is none."""
    try:
        state = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return 0
    return state.f_bavail * state.f_frsize
