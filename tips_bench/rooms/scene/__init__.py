"""What stands in a room."""
