"""What `tips-bench init` writes: a first file for an encoder, for data, for CI, made to be changed.

files   the three kinds of files
layout  which of the plain layouts a folder of data has
"""
