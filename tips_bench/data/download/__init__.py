"""Fetching and unpacking data sets."""
