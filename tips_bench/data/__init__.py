"""Readers of on-disk layouts, transforms, download, checks."""
