"""The error for invalid input, and the warning for renamed config keys."""


class InputError(ValueError):
    """Invalid input that the user can correct: a file, column, key or value.

    The one-line message contains what was expected, what was received and how to fix it. Pipelines print it without a
    traceback and exit with code 2.
    """


class RenamedWarning(UserWarning):
    """A config uses the old name of a key or value, which still works. Pipelines print it as a one-line hint."""
