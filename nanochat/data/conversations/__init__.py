"""Conversations to rows of tokens: tasks by name, their mixture, and how conversations are packed into rows."""
