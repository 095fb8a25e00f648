"""Rooms on disk, in the layouts of real data sets."""
