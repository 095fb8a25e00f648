"""Looking at every file of a data set before an evaluation spends hours on it.

task           all splits of a task, by its family's check
base           the report, and label maps
pixel_values   depth maps and normals
scans          labels, poses, intrinsics and depth of scans
videos         frames, masks and objects of clips
images         images of classification and retrieval of instances
pairs          images, keypoints, depth and poses of pairs
captions       images and their captions
shared_images  images of the training split that are scored, too
"""
