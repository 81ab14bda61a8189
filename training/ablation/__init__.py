"""What pre-training and the SSI loss bring, compared on simulated data."""
