"""Heads with one optimum: no learning rate, no seed.

patch_convex           `convex`: logistic regression on patches
points_convex          `convex-points`: on points
image_convex           `whole-convex`: on whole images
ridge                  `ridge`: least squares for depth and normals
softmax_regression     the solver of the convex probes
patches                patches in chunks, which ranks divide among them
sufficient_statistics  sums that a least-squares fit needs
patch_bank             features and soft labels of chosen patches
point_bank             the same of points
feature_spread         how features spread: have they collapsed?
"""
