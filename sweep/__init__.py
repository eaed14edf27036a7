"""Sweeps: what to train, where the results are kept, and the tables made of them."""
