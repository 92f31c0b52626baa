"""Tests of the store: the truth on disk and its projections."""
