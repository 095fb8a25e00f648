"""Random training crops, each a function of its number."""
