"""Tests of many threads and processes on one root."""
