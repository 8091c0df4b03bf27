"""A forward pass of a real model, and a step of its training, told step by step, with numbers and code."""
