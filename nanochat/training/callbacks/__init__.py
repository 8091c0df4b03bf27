"""The Lightning callbacks of a training run, and the code that only they use."""
