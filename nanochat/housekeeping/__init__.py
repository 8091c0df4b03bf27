"""Lists runs and caches with their sizes, and removes those that the user names."""
