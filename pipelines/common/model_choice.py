"""Which model a run trains, and the section of the config that is for it.

`--model` names one of our models, one of the section `models`, or the path of a class; without it, `model.name` of the
config does, as in the config of a finished run.
"""

from pathlib import Path
from typing import Any

from ranking.models import model_names
from ranking.own_model import name_model
from recsys.config import Values
from recsys.data.layout import SCHEMA_FILE
from recsys.errors import InputError
from recsys.own_code import is_path
from recsys.patterns import nearest
from recsys.runs.config import RUN_SECTION
from recsys.system.files import is_done

_CLASS = "class"
_MODEL_KEYS = {"model", "trainer", "features", _CLASS}


def section_mapping(values: Any, path: Path, key: str) -> Values:
    """A section as a mapping; an empty section gives an empty mapping."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: {key} must be a mapping of keys to values, got {values!r}")
    return {str(name): value for name, value in values.items()}


def choose_model(model: str | None, file_values: Values, model_sections: Values, path: Path) -> tuple[str, Values]:
    """The name of the model, for a class its path, and its section of the config.

    A class that the user names, with `--model` or in a config, is imported. One that only the config of a finished run
    or of a prepared data set names is not, unless it was imported before.

    Args:
        model: the value of `--model`.
        file_values: the values of the config.
        model_sections: its section `models`.
        path: the config.

    Raises:
        InputError: if nothing names a model, or the class cannot be imported.
    """
    name = _name_in(file_values, path) if model is None else model
    section = section_mapping(model_sections.get(name), path, f"models.{name}")
    class_path = str(section.get(_CLASS) or (name if is_path(name) else ""))
    if not class_path:
        return name, section
    if not is_path(class_path):
        raise InputError(f"{path}: models.{name}.class must be like my_package.my_file:MyModel, got {class_path!r}")
    is_typed = model == class_path or not is_artifact(file_values, path)
    if is_typed:
        name_model(class_path)
    if not section:
        mappings = (section for section in model_sections.values() if isinstance(section, dict))
        section = next((section for section in mappings if section.get(_CLASS) == class_path), {})
    return class_path, {key: value for key, value in section.items() if key != _CLASS}


def check_model_sections(model_sections: Values, path: Path) -> None:
    """Checks the names and the keys of the section `models`.

    Raises:
        InputError: for a name of no model without a class, or an unknown key.
    """
    for name, section in model_sections.items():
        keys = section_mapping(section, path, f"models.{name}")
        if name not in model_names() and not is_path(name) and _CLASS not in keys:
            raise InputError(
                f"{path}: models.{name}: unknown model{nearest(name, model_names())}; a model of your own needs "
                f"models.{name}.class, such as my_package.my_file:MyModel"
            )
        if unknown := sorted(set(keys) - _MODEL_KEYS):
            known_keys = ", ".join(sorted(_MODEL_KEYS))
            raise InputError(
                f"{path}: unknown key 'models.{name}.{unknown[0]}'{nearest(unknown[0], _MODEL_KEYS)}: allowed keys are "
                f"{known_keys}"
            )


def _name_in(file_values: Values, path: Path) -> str:
    section = file_values.get("model")
    name = section.get("name") if isinstance(section, dict) else None
    if name is None:
        raise InputError(f"{path} does not set model.name: pass --model, one of {', '.join(model_names())}")
    return str(name)


def is_artifact(file_values: Values, path: Path) -> bool:
    """Whether a config is one that a run or a preparation wrote, and not the user."""
    return RUN_SECTION in file_values or (path.parent / SCHEMA_FILE).exists() or is_done(path.parent)
