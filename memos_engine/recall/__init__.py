"""What comes back: a query becomes ranked hits, and hits become a context within a budget."""
