"""Tests of what is built for LangChain."""
