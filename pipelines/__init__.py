"""Command-line pipelines, each run as `python -m pipelines.NAME`.

`python -m` imports this file first, so that interrupts and versions are handled before torchrec is imported.
"""

import sys

from pipelines.common.interrupt import exit_on_interrupt

if sys.argv[:1] == ["-m"]:  # true only while `python -m pipelines.NAME` looks up NAME
    exit_on_interrupt()

from recsys.system.versions import exit_on_mismatch

if "pipelines.serve" not in sys.orig_argv:  # a server needs none of them
    exit_on_mismatch()
