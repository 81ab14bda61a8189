"""Camera geometry, networks and completion with numpy and torch only; nothing here imports ROS."""
