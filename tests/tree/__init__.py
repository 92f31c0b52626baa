"""What the words of a text say of a cube, and what a cube says it is about."""
