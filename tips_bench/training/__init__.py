"""Pretraining in the manner of TIPS: from image-text shards to an encoder.

recipe      Recipe, load_recipe: every number of a run, each with its source
shards      ShardStream: image-text samples from tar files, in an order that a seed decides and a small state resumes
captions    choosing a caption for each global token; training a tokenizer on captions
crops       random resized crops and flips; masks over patches
batches     Batch, TrainingData: what one training step on one rank sees
"""
