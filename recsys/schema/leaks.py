"""Labels of evaluation rows that reach the features of fitting rows, through histories from the log."""

from recsys.schema.resolved import Schema


def warning_of_label_histories(schema: Schema, has_folds_by_user: bool) -> str | None:
    """Returns what to say of random folds if histories contain labels of other folds; None if they do not.

    A history that keeps the clicked items tells the labels of its rows. With random folds, later rows of the key, which
    the model is fitted to, contain the labels of the evaluation rows. Folds by the key keep such rows together.

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
    return None
