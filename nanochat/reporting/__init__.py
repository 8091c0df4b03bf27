"""The report card of a model: every stage of its training, its cost and its scores, on one page."""
