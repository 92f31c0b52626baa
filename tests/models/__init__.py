"""Tests of memos_engine.models."""
