"""Training samples by number: from shards, from simulated scenes and from labelled data sets."""
