"""Data and transforms joined: which sample when, with which random numbers, served as batches."""
