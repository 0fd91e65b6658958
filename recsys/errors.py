"""The error that means bad input, and the warning about an old name."""


class InputError(ValueError):
    """Input that the user can put right: a file, a column, a key or a value.

    The message says in one line what was expected, what was received and how to fix it. Pipelines print it without a
    traceback and exit with code 2.
    """


class RenamedWarning(UserWarning):
    """A config key or value has a new name; the old one was read. Pipelines print it as a hint of one line."""
