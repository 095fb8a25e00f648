"""tips-bench: dense evaluation of frozen vision encoders."""
