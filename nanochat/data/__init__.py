"""Where text comes from and how it becomes rows of tokens.

The way of the data: ``corpora`` (documents) -> ``prepare`` (token files in the cache) -> ``packing`` (rows) ->
``text`` (the LightningDataModule). For fine-tuning: ``task_sources`` (tasks by name) -> ``mixture`` (their order) ->
``conversations`` (rows) -> ``chat`` (the LightningDataModule). This package imports nothing by itself, so that a
worker process that only parses source files need not load torch.
"""
