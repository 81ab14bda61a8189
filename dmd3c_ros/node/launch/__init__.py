"""Shared code of the launch files; imported only if the ROS package `launch` is installed."""
