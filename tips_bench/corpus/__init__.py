"""A corpus for pretraining: from links or folders of images to curated shards that `tips-bench train` reads.

store    a corpus is a folder of shards and a manifest; samples in, samples out, the same bytes always
pieces   a step as pieces, each done once, however often the step is stopped and started again
check    a look at every sample before it is trained on
"""
