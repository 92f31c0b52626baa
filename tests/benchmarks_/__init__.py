"""The benchmarks that judge quality: their scoring, and that they run."""
