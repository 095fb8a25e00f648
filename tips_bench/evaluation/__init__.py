"""The engine: a task, a model and a protocol become a record.

spec             task, protocol and model resolved, with what was overridden
patch_sizes      sizes in pixels for encoders of other patches
run              evaluate: fit, score, keep a record
video_masks      masks of videos as files, for splits that a server scores
cost             what it cost
again            the number of a record once more, and whether the two agree
settings         what an evaluation writes into its log before it starts
time_left        of a list of evaluations, from how long those took that are done
work             the folder of unfinished work, which one run has at a time
report           from a finished evaluation to its record
sharing          evaluations that read the same images share one pass, and those of the same fit the head
fitting          a probe's fit on disk, for a killed run and for other evaluations
task_data        the data of a task: where they lie, whether they are here, how many samples they have
counting         how many images an evaluation reads, and of which size, from its cards
passes           notes of what --cache has kept, for plans
estimate         what evaluations will ask of the backbone and of the disk
hours            how long that takes, by a short trial of each encoder
bench            what the encoder and decoding reach on this machine
keeping          what --cache keeps: within which limit, rounded to what
beside           what is made beside the record: other metrics, predictions
confusion        which classes are taken for which
cached_features  features of a split, as a run with --cache left them
fitted_head      the head of a run with --keep-head, and what it makes of any image
"""
