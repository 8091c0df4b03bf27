"""Sweeps: train one configuration with varied options and seeds, and compare the results."""
