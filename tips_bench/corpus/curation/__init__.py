"""Curation: which images of a corpus stay, and in which order they are written.

card           a curation's numbers, all in one place
wish           what a curation is asked to do, and all that decides its result
looks          what an image looks like: perceptual hashes, and a thumbnail that can be laid over another
task_images    the images of a task's data, whatever its family
signatures     hashes, thumbnails and embeddings of a shard or of a data set, in one file each
library        the signature files of a folder as one long table
candidates     which of many images may be the same picture as an image
cells          images of a large corpus that look alike, put together
alike          pairs of candidates whose thumbnails agree
duplicates     groups of such pairs, of which one image stays
again          a second look: the images that stay for the two of a pair are compared, too
agreeing       web captions that agree with their images
near           the images nearest to those of data sets
kmeans         k-means over more points than the memory holds
hierarchy      k-means on the centroids of k-means, and again
balance        a balanced draw from such a tree
choice         all of this together: which images stay, and why the others go
shuffle        the chosen samples in a new order, in bounded memory
page           what was found, as a page with pictures of pairs
curate         the step: one stage after another
"""
