"""A long run of the node under everything that goes wrong in the field: `dmd3c bench soak`."""
