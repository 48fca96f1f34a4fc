"""Simulations to test against, on real sockets, with the faults of the real ones."""
