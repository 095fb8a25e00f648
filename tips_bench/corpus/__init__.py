"""A corpus for pretraining: from links or folders of images to curated shards that `tips-bench train` reads.

store     a corpus is a folder of shards and a manifest; samples in, samples out, the same bytes always
storage   files of a corpus in object storage
hashes    of the files that a step reads
target    where the corpus of a step comes to lie: on a disk, or in object storage, brought there file by file
pieces    a step as pieces, each done once, however often the step is stopped and started again
plan      what a step would do, before it does it
card      what a corpus says of itself to others: Croissant, README
sources/  where samples come from
facts     what is known of an image and its text without a model
filters   limits on images and texts, and a classifier of the user's
user_code  functions of the user's as they are now, for the settings of a step
smaller   images made smaller on their way in
fetch     samples of any source into shards
look      what one shard holds
check     what a corpus holds, before it is trained on
page      the same as a page with pictures

caption          captions by a captioner, as a step
caption_shard    those of one shard, and what is written
caption_asked    which questions are asked, and of which no answer came
caption_desk     a captioner of this process: whether it answers, and how long it is waited for
caption_answers  what becomes of an answer: a caption, or the reason why it is none
caption_cache    answers, kept so that no question is asked twice
captioners/      who describes images: servers, models, functions
in_flight        several calls at a time

curation/        which images stay, and in which order they are written
"""
