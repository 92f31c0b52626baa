"""Tests of memos_engine.testing; the underscore keeps it apart from the package it tests."""
