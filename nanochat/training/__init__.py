"""Training: the LightningModules, the callbacks that do everything beside a step, checkpoints, and what a run leaves.

This package imports nothing by itself: whoever only reads a checkpoint, or wants a number in words, need not wait for
Lightning.
"""
