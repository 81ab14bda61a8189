"""ROS messages <-> numpy arrays. Stateless; they need no ROS installation."""
