"""Command-line pipelines, each run as `python -m pipelines.NAME` or `gatectr NAME`.

`python -m` imports this file first, so that interrupts and versions are handled before torchrec is imported. Any other
import of the package does nothing.
"""

import sys

if sys.argv[:1] == ["-m"]:  # true only while `python -m` looks up its module
    from pipelines.common.start import begin, module_of

    if (module := module_of(sys.orig_argv)).startswith("pipelines."):
        begin(module)
