"""Heads that are trained with stochastic gradients."""
