"""Dense metric depth from a camera and a LiDAR, for ROS 2."""
