"""Exports models to the format of the ``transformers`` library and imports them, without needing that library.

Names of tensors, settings and files are those of ``transformers`` 5, model type "nanochat", and of the ``tokenizers``
library's JSON. Only JSON and safetensors are written and read; pickles are never opened.
"""

from nanochat.exchange.folder import ImportedModel, read_folder, write_folder

__all__ = ["ImportedModel", "read_folder", "write_folder"]
