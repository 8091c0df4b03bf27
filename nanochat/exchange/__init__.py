"""A model to and from the format that the ``transformers`` library reads, without needing that library.

The format's facts (names of tensors, of settings and of files) are those of ``transformers`` 5, model type "nanochat",
and of the ``tokenizers`` library's JSON. What is written here is plain JSON and safetensors, and nothing that could be
unpickled is ever opened.
"""

from nanochat.exchange.folder import Imported, read_folder, write_folder

__all__ = ["Imported", "read_folder", "write_folder"]
