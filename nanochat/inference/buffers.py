"""The memory in which a decoder computes: every intermediate result, and every view of it that an operation needs."""

from __future__ import annotations

import torch
from torch import Tensor

from nanochat.inference.layout import Parts
from nanochat.model import Shape
from nanochat.model.fused import EPS

ROOT_EPS = torch.tensor(EPS**0.5)


class Normed:
    """Rows of the stream as a product wants them: RMSNorm, in as few operations as possible.

    Args:
        stream: (parts, rows, width / parts), the stream divided by sqrt(width).

    Attributes:
        rows: (rows, width), to be multiplied by what :meth:`scale` returns.
    """

    def __init__(self, stream: Tensor) -> None:
        parts, rows, size = stream.shape
        self.alone = stream.view(-1) if rows == 1 and stream.is_contiguous() else None
        if self.alone is not None:
            self.rows = self.alone.view(1, -1)
            return
        self.stream = stream.transpose(0, 1)
        self.length = torch.empty(rows, 1, 1)
        self.rows = torch.empty(rows, parts * size)
        self.target = self.rows.view(self.stream.shape)

    def scale(self) -> float:
        """Norms the rows, but for a factor, which is returned.

        The scale of a single row is a plain number, and a product multiplies by a number at no cost: one operation
        instead of three. Several rows are divided by their lengths, and the factor is 1. hypot adds epsilon
        to the square of the length.
        """
        if self.alone is not None:
            return float((torch.dot(self.alone, self.alone).item() + EPS) ** -0.5)
        torch.linalg.vector_norm(self.stream, dim=(1, 2), keepdim=True, out=self.length)
        torch.div(self.stream, self.length.hypot_(ROOT_EPS), out=self.target)
        return 1.0


class Buffers:
    """For ``time`` tokens of each stream.

    A view costs about as much as a small operation, 1 to 2 us, and to take memory for a result half a microsecond: for
    steps, which are all alike, both are done once.

    Args:
        shape: of the model.
        vocab_size: of the model.
        parts: how the products are split.
        ngrams: rows of the table of n-grams that each token looks up.
        streams: texts read together.
        time: new tokens of each.
    """

    def __init__(self, shape: Shape, vocab_size: int, parts: Parts, ngrams: int, streams: int, time: int) -> None:
        empty, rows = torch.empty, streams * time
        width, head_dim, group = shape.width, shape.head_dim, shape.heads // shape.kv_heads
        heads = shape.kv_heads // parts.heads  # key/value heads in a part

        self.ids = empty(rows, dtype=torch.int64)
        self.ids_array = self.ids.numpy().reshape(streams, time)  # numpy takes numbers from a list faster than torch
        self.ngrams = empty(rows * ngrams, dtype=torch.int64)
        self.ngrams_array = self.ngrams.numpy().reshape(rows, ngrams)
        self.embedded = empty(rows, width)
        self.embedded_by_part = self.embedded.view(rows, parts.stream, -1)

        self.stream = empty(parts.stream, rows, width // parts.stream)
        self.stream_by_row = self.stream.transpose(0, 1)
        self.normed = Normed(self.stream)
        self.to_heads = self.normed.rows.expand(parts.heads, rows, width)
        self.to_inner = self.normed.rows.expand(parts.inner, rows, width)

        # queries, key and value of each key/value head; the lengths of queries and keys, and 1 for the values
        self.projected = empty(parts.heads, rows, heads * (group + 2) * head_dim)
        vectors = self.projected.view(parts.heads, streams, time, heads, group + 2, head_dim)
        lengths = torch.ones(*vectors.shape[:-1], 1)
        self.turned, self.turned_length = vectors[..., : group + 1, :], lengths[..., : group + 1, :]
        self.pairs = torch.view_as_complex(self.turned.unflatten(-1, (head_dim // 2, 2)))
        self.query, self.query_length = vectors[..., :group, :], lengths[..., :group, :]
        self.key_value, self.key_value_length = vectors[..., group:, :], lengths[..., group:, :]

        # attention goes by key/value heads, each with the queries of its group at all times
        self.queries = empty(streams * shape.kv_heads, group * time, head_dim)
        by_head = (parts.heads, streams, heads, group, time, head_dim)
        self.queries_by_row = self.queries.view(by_head).permute(0, 1, 4, 2, 3, 5)
        self.found = torch.empty_like(self.queries)
        self.found_by_row = self.found.view(by_head).permute(1, 4, 0, 2, 3, 5)
        self.rows_found = self.found.view(1, width) if rows == 1 else empty(rows, width)
        self.target_of_found = self.rows_found.view(self.found_by_row.shape) if rows > 1 else None
        self.to_output = self.rows_found.expand(parts.stream, rows, width)

        self.inner = empty(parts.inner, rows, 4 * width // parts.inner)
        self.squares = empty(rows, 4 * width)
        self.target_of_squares = self.squares.view(rows, parts.inner, -1).transpose(0, 1)
        self.to_contract = self.squares.expand(parts.stream, rows, 4 * width)

        last = self.stream.view(parts.stream, streams, time, -1)[:, :, -1]
        self.last = Normed(last) if time > 1 else self.normed
        self.to_head = self.last.rows.expand(parts.vocabulary, streams, width)
        self.logits = empty(parts.vocabulary, streams, vocab_size // parts.vocabulary)
