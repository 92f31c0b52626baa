"""Tests of what is built for LangGraph."""
