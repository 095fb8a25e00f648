"""Heads that nothing is fitted for: neighbors, class names, released weights.

kmeans         clusters of the scored split, named by its labels
knn            `knn`: neighbors vote
in_context     `in-context`: neighbors of each patch vote
patch_knn      `patch-knn`: the pixels of the nearest patches vote
patch_memory   the training patches that may be such neighbors
class_names    cosines with the names of classes
pixel_classes  the class of each pixel from a softmax over all names
discovery      one object of an image: LOST and TokenCut
maskclip       cosines without absent classes, and smoothed by keys
pamr           scores refined by the colors of neighbors
released_head  `released`: a DPT head as published
"""
