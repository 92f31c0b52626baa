"""What is true, and its projections: SQLite holds the truth; page, words and Chroma can be rebuilt from it."""
