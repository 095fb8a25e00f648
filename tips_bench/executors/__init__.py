"""Jobs, which are calls of functions with plain data: processes of this machine, array jobs of Slurm, tasks of a Ray cluster.

jobs         what a job is, and how an executor does it
chosen       the executor that a user names
work         what a process of an executor does
watched      a command with a limit in time, which ends with the process that started it
local        a process for each GPU of this machine
slurm        array jobs, through submitit
ray          tasks of a Ray cluster that runs already
matrix       evaluations that were asked for, in one file of the results folder, and what has become of them
queue        what Slurm says of jobs that were queued
evaluations  those on the same images together as one job
together     such a job by several ranks of one machine
"""
