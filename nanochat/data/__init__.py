"""The LightningDataModules, and everything that turns text into rows of tokens.

The data modules are the files of this folder: ``text_data`` (pretraining), ``chat_data`` (fine-tuning),
``question_data`` (reinforcement learning), ``prompt_data`` (``predict``) and ``synthetic`` (random tokens, for timing).
They compose the three packages below, each of which may import only those before it: ``corpus`` (where documents come
from), ``tokens`` (documents to token files to rows) and ``conversations`` (conversations of tasks to rows).

This package imports nothing when it is imported, so that a worker process that only parses source files does not load
torch.
"""
