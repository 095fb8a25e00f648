"""Fetching and unpacking data sets.

task_data  a task's files: resumed, checked, unpacked
unpack     archives from strangers
"""
