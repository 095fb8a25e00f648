"""Pretraining in the manner of TIPS: from image-text shards to an encoder.

What a run is:

    recipe        Recipe and its parts: every number of a run
    recipe_files  load_recipe; figures: the source of every number

What a step sees:

    shards    samples from tar files, in an order that a seed decides and a cursor resumes
    captions  a caption for each global token; a tokenizer trained on captions
    crops     random resized crops and flips; masks over patches
    chunks    samples read by worker processes
    batches   TrainingData, Batch: what one step on one rank sees
"""
