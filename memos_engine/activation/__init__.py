"""Memory of a local model's activations: keys and values kept, moved and put together."""
