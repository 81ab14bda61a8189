"""The engine of both stages: one run of a network, from its settings to its weights."""
