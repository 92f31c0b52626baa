"""Language and embedding models behind the ports; loaded on first use, never on import."""
