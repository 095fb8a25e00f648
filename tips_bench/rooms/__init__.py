"""Procedural 3D rooms: geometry, rendering, captions, and writers that put them on disk in the layouts of real data sets."""
