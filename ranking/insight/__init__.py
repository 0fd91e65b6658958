"""What the models of a finished run read from the data, and how rows differ from one another."""
