"""Drives, bags and results on one time line, in Rerun."""
