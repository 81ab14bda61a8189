"""Nodes that play recorded or simulated sensors."""
