"""Recordings without ROS: ROS 2 bags (sqlite3, MCAP) and ROS 1 bags, by the library rosbags.

Needs no rclpy. Messages are read and written as CDR, so that everything but `reader` and
`recovery` knows ROS 2 alone.
"""
