"""The package's own logging, which knows nothing of ROS, shown in the node's log."""

from __future__ import annotations

import logging


class RosLogHandler(logging.Handler):
    """Passes records of Python's logging on to a ROS logger."""

    def __init__(self, logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log at the same severity; rclpy needs a separate call site for each severity."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._logger.info(text)
        else:
            self._logger.debug(text)


def show_package_log(logger) -> None:
    """Send the package's log, from INFO on, to a node's logger (instead of another node's)."""
    package = logging.getLogger('dmd3c_ros')
    for handler in [h for h in package.handlers if isinstance(h, RosLogHandler)]:
        package.removeHandler(handler)
    package.addHandler(RosLogHandler(logger))
    package.setLevel(logging.INFO)
    package.propagate = False
