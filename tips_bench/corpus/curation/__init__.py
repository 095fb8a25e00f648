"""Curation: which images of a corpus stay, and in which order they are written.

card           what a curation does, with every number
looks          what an image looks like: perceptual hashes, and a thumbnail that can be laid over another
signatures     hashes, thumbnails and embeddings of a shard or of a data set, in one file each
library        the signature files of a folder as one long table
candidates     which images of a table may be the same picture as an image
alike          pairs of candidates whose thumbnails agree
duplicates     groups of such pairs, of which one image stays
task_images    the images of a task's data, whatever its family
near           the images nearest to those of data sets
kmeans         k-means over more points than the memory holds
hierarchy      k-means on the centroids of k-means, and again
balance        a balanced draw from such a tree
shuffle        the chosen samples in a new order, in bounded memory
page           what was found, as a page with pictures of pairs
curate         the step: all of this, one after another
"""
