"""Training of completion networks: data generation, losses and the two stages of the paper."""
