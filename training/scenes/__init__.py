"""Simulated training frames: rendered once, and drawn from anew for every sample."""
