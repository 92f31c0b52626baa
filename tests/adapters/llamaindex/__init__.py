"""Tests of memos_adapters.llamaindex."""
