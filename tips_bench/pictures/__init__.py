"""Pictures of what a model sees, as PNG and PLY."""
