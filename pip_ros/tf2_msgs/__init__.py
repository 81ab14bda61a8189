"""Stand-in for the message package `tf2_msgs` of ROS 2, for serialized messages alone."""
