"""Checkpoints of the networks: known ones, reading them, and what they were trained for."""
