"""A local page on which features of any encoder are looked at.

session   photos and encoders; features of a photo, made once
maps      arrays from features: shared colors, matches between photos, classes by their names
surfaces  depth and normals by a map that is fitted on generated rooms
heads     maps by heads that runs have fitted
packing   features and maps as short text that a page reads
document  the page, for the server or as one file that needs none
server    answers to the page's requests
turns     which of a page's questions is its latest

The page's HTML, style and scripts lie in the folder `page`.
"""
