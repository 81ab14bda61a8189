"""`python -m dmd3c_ros.cli` is `dmd3c`."""

from .app import main

main()
