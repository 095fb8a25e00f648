"""Pictures of what a model sees, as PNG and PLY.

panels        image, truth, prediction and principal components, with a legend
dense         the same for depth and normals
point_clouds  labeled clouds, as a view and as PLY
neighbors     an image and its nearest others
clips         objects in videos, as a strip and as an animation
retrieval     captions of an image, images of a caption
matches       two images with lines between matched points
boxes         a box that was found, and the true ones
"""
