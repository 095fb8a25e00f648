"""Heads that nothing is fitted for: neighbors, class names, released weights.

knn            `knn`: neighbors vote
class_names    cosines with the names of classes
released_head  `released`: a DPT head as published
"""
