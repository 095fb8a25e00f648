"""The command line, one module per verb.

    main         the entry point
    app          the command itself, and what becomes of errors
    streams      output in any encoding, to a full disk or a closed pipe
    interrupt    Ctrl-C, from the first moment on
    names        comma lists and `all`, checked before any work starts
    options      options that several verbs have
    run_options  those of `run`
    executor_options  the options that say where work is done
    complete     names that a shell completes
    matrix       `run --on`: evaluations as jobs
    estimates    `run --dry-run`: images, disk and hours
    training_plan  `train --dry-run`: memory, operations and days
    ranked       the end of a process that torchrun started
    output       tables, JSON, the one line of an error

The verbs:

    quickstart   the main job in one command
    explore      a local page on which features are looked at
    run          score models on tasks under protocols
    status       what is done, running, failed and left
    bench        what a model reaches on this machine
    table        records side by side
    samples      the samples of one record, the worst first
    compare      two records, or two folders of them
    robustness   changed images beside clean ones
    reproduce    the number of a record once more
    check        new records against a baseline
    leaderboard  a site of records, submissions, publishing
    train        pretrain a recipe
    export       the model of a training run
    export_results  records in the formats of others
    masks        masks of videos, for a server that scores them
    list_cards   the names that other verbs take
    show         one card in full
    cache        the features that runs keep
    data         fetch, check and generate data sets
    corpus       fetch and check data for pretraining
    init         first files for an encoder, a task, CI
    doctor       whether this machine is ready
"""
