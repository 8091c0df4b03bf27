"""Figures, tables and an HTML page from finished runs. Reads runs, and changes none of their files."""
