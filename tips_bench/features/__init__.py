"""Running an encoder over a data set: batching, windows, precision, cache."""
