"""Config files and overrides of the command line as nested values, with the current names of sections."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.common.cli import packaged_config
from recsys.config import Values, load_yaml, merge, parse_overrides, warn_of_new_name

_RENAMED_SECTIONS = {"plan_only": "show_sharding"}


def read_layers(path: Path, overrides: Sequence[str]) -> Values:
    """Reads a config file and applies the overrides of the command line."""
    return merge(load_sections(path), override_sections(overrides))


def load_sections(path: Path) -> Values:
    """Reads a config file and renames sections of earlier versions."""
    return _rename_sections(load_yaml(path, find_base=packaged_config))


def override_sections(overrides: Sequence[str]) -> Values:
    """Parses the overrides of the command line and renames sections of earlier versions."""
    return _rename_sections(parse_overrides(overrides))


def _rename_sections(values: Values) -> Values:
    for old in _RENAMED_SECTIONS.keys() & values.keys():
        new = _RENAMED_SECTIONS[old]
        warn_of_new_name(old, new)
        earlier = values.pop(old)
        values[new] = merge(values[new], earlier) if isinstance(values.get(new), dict) else earlier
    return values
