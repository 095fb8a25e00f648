"""Random training crops, each a function of its number.

base                 a crop is a function of (seed, number)
segmentation         mmsegmentation's transforms
segmentation_pillow  DINOv3's
depth                those of the linear depth protocols
pixel_values         square crops for depth and normals
resized              torchvision's random resized crops
resized_labels       the same with label maps and changed colors
"""
