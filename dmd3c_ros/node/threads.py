"""The threads of the process: how those of a network wait for each other, and which go first."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

# A network is hundreds of short parallel loops. By default a thread spins for milliseconds between
# two of them, and keeps the core from the middleware and the sensor drivers; a thread that sleeps
# immediately has to be woken each time, which costs a fifth of the whole frame. This spin count
# (microseconds) avoids both. The policy is needed as well: without one, GNU OpenMP cuts the count
# to a tenth once a process has more threads than cores, including sleeping ones.
ENVIRONMENT = {'OMP_WAIT_POLICY': 'ACTIVE', 'GOMP_SPINCOUNT': '1000'}

# Many a Linux shares the processor out between sessions first, and between their threads then.
_AUTOGROUP = Path('/proc/self/autogroup')


def set_niceness(niceness: int) -> None:
    """Set the niceness, -20 to 19, of all threads of the process; those to come inherit it.

    Where it counts by session, that of the process's session is set as well. Raises OSError where
    the system does not allow so low a value.
    """
    # On Linux every thread has its own. 0 is the whole process elsewhere.
    threads = os.listdir('/proc/self/task') if sys.platform == 'linux' else ['0']
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # It has ended meanwhile.
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
    if _AUTOGROUP.exists():
        _AUTOGROUP.write_text(str(niceness))
