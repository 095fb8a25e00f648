"""Weight files and configurations: read, recognized and written."""
