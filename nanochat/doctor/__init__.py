"""Checks of the machine for ``doctor``. They need the standard library alone."""
