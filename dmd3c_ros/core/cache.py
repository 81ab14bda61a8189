"""Where downloaded and derived files are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/dmd3c_ros``, else ``~/.cache/dmd3c_ros``; it may not exist yet."""
    # The specification has a relative path ignored.
    base = Path(os.environ.get('XDG_CACHE_HOME', ''))
    return (base if base.is_absolute() else Path.home() / '.cache') / 'dmd3c_ros'
