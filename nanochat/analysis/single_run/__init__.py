"""The figures of one run that its files alone tell: no model is loaded for them."""
