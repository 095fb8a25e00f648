"""Where samples come from. A source lists its samples as parts, which are plain data, and reads a part back, wherever that is done.

base        a sample that was found; what every kind of source does
named       which kind of source a name means
splits      which files of a folder are of a split, by their names
hub_readme  the same as a README states it
folders     images in folders
metadata    what is said of such images in a table of their own
archives    shards that are there
rows        what Parquet, CSV, TSV and JSON-lines files hold
tabs        of those, rows with tabs between their fields, whether a tool quoted them or not
tables      rows of such files: images in them, or links
links       images behind links, fetched by img2dataset
saved       data sets that Hugging Face's `datasets` has saved
"""
