"""Labels of evaluation rows that reach the features of fitting rows, through histories and rates of earlier rows."""

from recsys.schema.resolved import Schema


def warning_of_label_histories(schema: Schema, has_folds_by_user: bool) -> str | None:
    """Returns what to say of random folds if histories contain labels of other folds; None if they do not.

    A history that keeps the clicked items tells the labels of its rows, and so does the click rate of earlier rows.
    With random folds, later rows of the key, which the model is fitted to, contain the labels of the evaluation rows.
    Folds by the key keep such rows together.

    Args:
        schema: the roles of the columns.
        has_folds_by_user: whether all rows of a user are in one fold.
    """
    for name, log in schema.logs.items():
        reads_label = log.where is not None and log.where.column == schema.label
        if reads_label and not (has_folds_by_user and schema.user == log.key):
            return (
                f"schema.sequences.{name} reads the label (column {schema.label!r}), and rows of one {log.key!r} are "
                "in several folds: models are fitted to histories that contain labels of the rows they are evaluated "
                f"on. Set schema.user to {log.key!r}, or evaluate with --folds forward"
            )
    for name in schema.past_encoded:
        members = schema.crosses.get(name, (name,))
        if "past_ctr" in schema.encodings[name] and not (has_folds_by_user and schema.user in members):
            return (
                f"schema.encodings: past_ctr of {name!r} counts clicks of earlier rows, and rows of one value are in "
                "several folds: models are fitted to rates that contain labels of the rows they are evaluated on. "
                "Evaluate with --folds forward"
            )
    return None
