"""``trace``: one forward pass and one training step of a real model, section by section, with numbers and code."""
