"""Which encodings from counts `schema.encodings: auto` stands for."""
