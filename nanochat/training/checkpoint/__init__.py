"""Checkpoint files: when they are written, how they are written and read, and where they are found."""
