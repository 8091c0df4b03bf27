"""Talking to a trained model: in the terminal, in the browser, from other programs."""
