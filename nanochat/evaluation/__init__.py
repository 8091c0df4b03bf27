"""Evaluation: CORE for base models, the chat tasks and ChatCORE, and the sandbox for HumanEval."""
