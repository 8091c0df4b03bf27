"""The figures that compare several runs."""
