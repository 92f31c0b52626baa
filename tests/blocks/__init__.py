"""Blocks of a cube: what is kept, for whom, and what becomes of it."""
