"""From recall to an answer."""
