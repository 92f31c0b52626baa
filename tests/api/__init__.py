"""Tests of the public calls, as a user makes them."""
