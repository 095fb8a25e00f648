"""One task family per module: joins encoder, reader, probe and metric."""
