"""Pretraining in the manner of TIPS: from image-text shards to an encoder.

What a run is:

    recipe        Recipe and its parts: every number of a run
    recipe_data   its part about shards, captions and crops
    recipe_beside  its parts about evaluations on the way and about bad steps
    recipe_files  load_recipe; figures: the source of every number

What a step sees:

    shards    samples from tar files, in an order that a seed decides and a cursor resumes
    sources   several sources of shards, each with its weight
    shard_index   where the samples of a shard begin
    shard_files   bytes of shards, on a disk or in object storage
    caption_layouts  where the captions of a sample stand
    captions  a caption for each global token; a tokenizer trained on captions
    crops     random resized crops and flips; masks over patches
    chunks    samples read by worker processes
    batches   TrainingData, Batch: what one step on one rank sees

What a step does:

    pieces       MicroBatch: a piece of a batch, on the device
    contrastive  InfoNCE in chunks, over all ranks
    heads        ProjectionHead: features to a point among prototypes
    prototypes   Center, prototype_loss: teaching over prototypes, in pieces
    teacher      Teacher: a running mean, of the heads alone, or a frozen run
    student      Student: what is trained, and the losses of a piece
    optim        the optimizer a recipe names
    adafactor    Adafactor
    muon         Muon
    schedule     rates by the number of the step
    step         Learner: one step, in one piece or in several
    rank_counts  how many ranks can share a batch
    distributed  ranks, DDP and FSDP

What a run does:

    loop        train: from the first or the newest step to the last
    claim       the folder of a run: for one process, resumed with what may change
    first_samples  whether the recipe can use its shards
    checkpoint  whole or not there, of all ranks together
    checkpoint_writer  writing them beside the steps
    evaluations  scoring them beside the steps
    runs        what a run has learned: export; a frozen teacher
    log         what it says of itself
    estimate    what a recipe needs, before it runs
    stage_sizes  how large a stage is on one rank
    step_memory  the fullest moment of a step
    history     what happened to it
    endings     why an attempt ends, and whether to try again
    preemption  SIGTERM, for all ranks or for some machines
    bad_steps   steps that are passed over
    held_out    what is measured and not learned from
    divergence  when it stops
    watchdog    when ranks wait in vain
"""
