"""Parts of the commands: fits, settings that follow the data, reranking, search spaces, sharding plans."""
