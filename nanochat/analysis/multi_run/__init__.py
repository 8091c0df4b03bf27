"""Figures that compare several runs."""
