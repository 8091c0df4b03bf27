"""Reads finished runs: figures, tables, and one page that shows them. Nothing here changes a run."""
