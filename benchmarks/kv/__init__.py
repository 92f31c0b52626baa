"""Activation memory beside full prefill and beside the published method: how exact, how fast, how small."""
