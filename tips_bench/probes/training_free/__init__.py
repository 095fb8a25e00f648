"""Heads that nothing is fitted for: neighbors, class names, released weights."""
