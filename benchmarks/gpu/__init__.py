"""What a GPU does with our training, and what it could do."""
