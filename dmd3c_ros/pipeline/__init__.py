"""Processing of a frame from messages to dense depth, for nodes, bags and commands; no rclpy."""
