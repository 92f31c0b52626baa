"""Tests of the times that texts name."""
