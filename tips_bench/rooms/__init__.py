"""Procedural 3D rooms: geometry, rendering, captions, and writers that put them on disk in the layouts of real data sets.

generate  (seed, split, number) to a rendered room
captions  two captions for an image

scene/    what stands in a room
drawing/  from triangles to images
writing/  sets of rooms on disk
"""
