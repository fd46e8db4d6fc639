"""What a representation is worth, and pictures of what a model does."""
