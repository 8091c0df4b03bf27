"""Checkpoint files: writing and reading them, finding them, and the callbacks that save them."""
