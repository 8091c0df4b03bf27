"""Documents to rows of tokens: token files in the cache, their shards, the shuffled stream, and batches."""
