"""Pure accumulators: update, merge, compute."""
