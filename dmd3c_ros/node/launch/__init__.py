"""What the launch files share; imported only where the ROS package `launch` is installed."""
