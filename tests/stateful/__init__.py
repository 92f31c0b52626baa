"""Tests that drive a real cube beside its model."""
