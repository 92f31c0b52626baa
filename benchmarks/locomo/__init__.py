"""LoCoMo, retrieval only: what of the evidence stands in a context of so many tokens. See `__main__.py`."""
