"""tips-bench table: records side by side."""
def table(): pass
