"""From recall to an answer: what stands in a prompt, who reads it, and what is captured of the turn."""
