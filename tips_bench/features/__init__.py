"""Running an encoder over a data set: batching, windows, precision, cache.

context           RunContext: what fits, scores and pictures of one evaluation share
ahead             batches that threads load while the device computes
trial             batch size and workers that suit this machine
layers            which blocks of an encoder a protocol reads
meter             what the backbone spends
extract           an encoder over the images of a reader: resized, batched, decoded ahead
upsampling        patch features on a finer grid, between the encoder and the head
upsamplers        which there are: bilinear, AnyUp, JAFAR, LoftUp, FeatUp
inference         heads over a split: whole images or windows, scales, mirrored
probabilities     windows averaged after a softmax
geometry          from token grids to pixels
image_embeddings  features of whole images
whitening         such features whitened, as learned on an index of them
lifting           patch features of frames onto the points of a scan
lifted            the scans of a reader with such features
prompts           class names as text embeddings
class_prompts     names and prompts of zero-shot classification
propagation       labels that follow a video
search            exact nearest neighbors by cosine
patch_maps        patch features of single images, and where their patches lie
point_matching    points of one image looked for in another
view_matching     points of one view of a scene matched with those of another
patch_search      the nearest patches of a memory on disk, exact or by an index
cosine_matches    the nearest of them by cosine, exactly, for less than the price of float32 products
affinity          which patches of one set match those of another, in blocks
store             arrays on disk that many processes fill, and that survive a kill
memory            features found by an image's own pixels, for other evaluations and later runs
parts             the files of such features
part_writer       features appended to them, within the limit of a cache
upkeep            what the cache of features holds, and what goes first
cache             where the unfinished work of a run is kept
"""
