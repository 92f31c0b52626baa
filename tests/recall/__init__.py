"""Tests of what recall decides: the question, the ranking, silence, the context."""
