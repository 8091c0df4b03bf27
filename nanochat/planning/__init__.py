"""``plan``: chooses the model and the number of steps that give the lowest val/bpb in a given time on this machine."""
