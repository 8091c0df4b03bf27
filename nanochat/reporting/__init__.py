"""The report card: one page about a model's whole life, from its first step to its last score."""
