"""The shared core: schema, data path, embeddings, training, metrics and run folders. It contains no models."""
