"""The shared core: schema, data path, embeddings, training, metrics and run folders; it knows no model family."""
