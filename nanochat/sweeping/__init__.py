"""Sweeps: the same training over and over, each time with other settings, and what came of it."""
