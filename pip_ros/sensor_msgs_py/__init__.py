"""Stand-in for the Python package `sensor_msgs_py` of ROS 2."""
