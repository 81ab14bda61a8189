"""Drives, bags and results as one picture over time, in Rerun."""
