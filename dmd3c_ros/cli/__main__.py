"""`python -m dmd3c_ros.cli` is `dmd3c`."""

from dmd3c_ros.cli.app import main

main()
