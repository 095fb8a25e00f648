"""Records, statistics and tables.

Records:

    record           Record: one cell of a table
    cost             the part of it that says what it cost
    upgrade          records of older schemas
    protocol_hash    what says that two records have one protocol
    folders          records found in files and folders
    per_sample       the counts of each sample, as arrays and tables
    predictions      what was predicted of each sample
    kept_head        the fitted head of a run, in a file
    counts           records with their counts, checked against each other
    same_model       which records are of one model, whatever its name
    frames           records as a DataFrame
    provenance       versions and the state of the source tree
    reproduce        the command that makes a number again
    untrusted_input  what strangers sent

What follows from them:

    statistics       bootstrap intervals
    comparison       is B better than A, and how sure
    comparison_text  that, for people
    comparison_html  that, for notebooks
    robustness       changed images beside clean ones
    regression       new records against a baseline
    check_reports    that, for people, JUnit and GitHub
    tables           records side by side
    table_choice     which records and metrics a table shows
    table_layout     a table before it is text
    table_formats    a table as text, Markdown, CSV, LaTeX, JSON

What leaves:

    exchange/        records in the formats of others
"""
