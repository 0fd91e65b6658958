"""OneTrans: one Transformer over the features and the events of a row."""
