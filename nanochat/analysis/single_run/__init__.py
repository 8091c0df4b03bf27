"""Figures of one run that need only its files, or a few timed steps: no checkpoint is loaded."""
