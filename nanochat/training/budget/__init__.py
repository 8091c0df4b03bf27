"""The memory and time of a run: estimates before the first step, and the plan made from them."""
