"""The node at a given rate, under other load: `dmd3c bench node`."""
