"""Tests that kill processes while they write."""
