"""A list of evaluations as jobs: processes of this machine, array jobs of Slurm, tasks of a Ray cluster.

matrix    what was asked for, in one file of the results folder, and what has become of it
jobs      evaluations on the same images together, as plain data
work      what a job does, wherever it runs
together  a job by several ranks of one machine
local     a process for each GPU of this machine
slurm     array jobs, through submitit
ray       tasks of a Ray cluster that runs already
"""
