"""Training: the LightningModules, checkpoints, callbacks, and the budget of memory and time.

This package imports nothing, so that a program that only reads a checkpoint or formats a number need not wait for
Lightning.
"""
