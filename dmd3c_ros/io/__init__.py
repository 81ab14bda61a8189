"""Files in and out: KITTI drives, depth images, point clouds, calibrations; no ROS here."""
