"""Heads with one optimum: no learning rate, no seed."""
