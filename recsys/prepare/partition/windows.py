"""Forward windows of training rows: the last days, or parts of the last half of the rows in time."""

import numpy as np


def windows_of_days(day: np.ndarray, n_windows: int) -> np.ndarray:
    """Returns [n] uint8 windows: each of the last days is one, and at least one day is before them.

    Args:
        day: [n] days.
        n_windows: the greatest number of windows.
    """
    days = np.unique(day)
    n = min(n_windows, len(days) - 1)
    return np.searchsorted(days[len(days) - n :], day, side="right").astype(np.uint8)


def windows_of_times(time: np.ndarray, n_windows: int) -> np.ndarray:
    """Returns [n] uint8 windows: parts of about equal numbers of rows of the last half of the rows in time.

    Rows of one time are in one window, so that there may be fewer windows; at least one time is before them.

    Args:
        time: [n] times.
        n_windows: the greatest number of windows.
    """
    ordered = np.sort(time)
    positions = len(ordered) * (n_windows + np.arange(n_windows)) // (2 * n_windows)
    starts = np.unique(ordered[positions])
    return np.searchsorted(starts[starts > ordered[0]], time, side="right").astype(np.uint8)
