"""The tests, and the pinned things that they stand on."""
