"""Measurements of speed, memory, coverage and defaults, each run as `python -m benchmarks.NAME`.

As in `pipelines`, versions are checked before torchrec is imported, and only by `python -m`.
"""

import sys

if sys.argv[:1] == ["-m"]:
    from pipelines.common.start import module_of
    from recsys.system.versions import exit_on_mismatch

    if module_of(sys.orig_argv).startswith("benchmarks."):
        exit_on_mismatch()
