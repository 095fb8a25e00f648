"""Records, statistics, tables and pictures."""
