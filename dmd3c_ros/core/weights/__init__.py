"""Checkpoints of the networks: released ones, reading them, and their conventions."""
