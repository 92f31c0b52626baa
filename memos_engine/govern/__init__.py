"""Who may, what was, and whether the record of it is whole."""
