"""Measurements of the whole: time, precision, motion, confidence, odometry, endurance."""
