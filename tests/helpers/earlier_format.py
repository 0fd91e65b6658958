"""A prepared folder as the version before wrote it."""

import json
import shutil
from pathlib import Path

from recsys.system.seal import seal


def copy_in_format_3(folder: Path, out: Path) -> Path:
    """Copies a prepared folder without users, forward windows and where histories end."""
    shutil.copytree(folder, out)
    manifest, stats, groups = (
        json.loads((out / name).read_text()) for name in ("schema.json", "stats.json", "folds.json")
    )
    manifest["format_version"] = 3
    del manifest["prepare"]["folds"]
    for sequence in (*manifest["schema"]["logs"].values(), *manifest["schema_config"]["sequences"].values()):
        sequence.pop("history_until", None)
    for values in (stats["numeric"], stats["missing_indicators"]):
        for name in [name for name in values if name.startswith("forward_")]:
            del values[name]
    for group in groups["groups"]:
        del group["window"], group["is_tuning"]
    for name, content in (("schema.json", manifest), ("stats.json", stats), ("folds.json", groups)):
        (out / name).write_text(json.dumps(content))
    seal(out)
    return out
