"""Code that the pipelines share."""
