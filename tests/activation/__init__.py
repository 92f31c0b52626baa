"""Tests of memos_engine.activation."""
