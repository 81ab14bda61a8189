"""Files in and out: KITTI drives, depth pictures, point clouds, calibrations; no ROS here."""
