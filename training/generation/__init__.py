"""Stage 1 data: from an unlabelled image to a sample with the points of a simulated sensor."""
