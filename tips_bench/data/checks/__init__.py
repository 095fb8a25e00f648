"""Looking at every file of a data set before an evaluation spends hours on it."""
