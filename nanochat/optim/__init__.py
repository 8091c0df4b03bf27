"""Muon and AdamW as one optimizer, the schedule, and the learning rates that fit a model."""

from nanochat.optim.optimizer import MuonAdamW

__all__ = ["MuonAdamW"]
