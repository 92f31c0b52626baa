"""LangGraph's stores and ours, one module each with its class as `SYSTEM`; imported in the store's own process."""
