"""Parts of the ROS nodes; each does one thing and most know nothing of rclpy."""
