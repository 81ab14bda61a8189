"""The node at a given rate, beside other work: `dmd3c bench node`."""
