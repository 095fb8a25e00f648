"""Frozen encoders from any source behind one contract."""
