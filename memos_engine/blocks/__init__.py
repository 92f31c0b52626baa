"""Activation memory of a cube: passages of its items, encoded once by a model, and when that pays."""
