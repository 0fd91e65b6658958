"""Command-line pipelines, each run as `python -m pipelines.NAME`.

Both steps stand here because `python -m` imports this file first: after it, importing torchrec is safe.
"""

import sys

from pipelines.common.interrupt import end_at_once
from recsys.system.versions import exit_on_mismatch

if sys.argv[:1] == ["-m"]:  # what `python -m pipelines.NAME` shows until NAME is found, and no other program does
    end_at_once()
exit_on_mismatch()
