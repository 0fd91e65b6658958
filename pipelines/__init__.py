"""Command-line pipelines, each run as `python -m pipelines.NAME`.

The check stands here because `python -m` imports this file first: after it, importing torchrec is safe.
"""

from recsys.versions import exit_on_mismatch

exit_on_mismatch()
