"""What the project claims about speed, weight and quality, measured beside its baselines in one run."""
