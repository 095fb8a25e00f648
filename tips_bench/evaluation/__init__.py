"""The engine: a task, a model and a protocol become a record."""
