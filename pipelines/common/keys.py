"""Finds the section of a config key that was written in another place."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel

from recsys.config import StrictModel, Values
from recsys.errors import InputError

Sections = Mapping[str, Sequence[type[BaseModel]]]
"""The sections of a config, each with the models that may validate it; none for a key that is not a section."""

_CUTOFF = 0.75
"""Similarity of two keys from which on one is taken as a misspelling of the other."""
_SHORT_FORMS = {"bs": "batch_size", "dim": "embedding_dim", "lr": "learning_rate", "wd": "weight_decay"}
"""Keys of other libraries, which are too unlike their names here to be found as misspellings."""


def check_places(values: Values, sections: Sections, origin: str) -> None:
    """Checks that top-level keys are sections, and that the keys of a section do not belong to another one.

    Keys that no section has are left to the validation of their section.

    Args:
        values: the values of a config.
        sections: the sections that it may have.
        origin: the file or command line that errors name.

    Raises:
        InputError: for the first such key; it names the section that has the key, or else all sections.
    """
    for key in values.keys() - sections.keys():
        if places := _places(key, sections):
            raise InputError(f"{origin}: unknown key {key!r}; did you mean {places}?")
        raise InputError(f"{origin}: unknown key {key!r}: the sections of a config are {', '.join(sections)}")
    for section, models in sections.items():
        content = values.get(section)
        for key in content if isinstance(content, dict) and models else ():
            if key not in _keys(models) and (places := _exact_places(str(key), sections)):
                raise InputError(f"{origin}: unknown key '{section}.{key}'; did you mean {places}?")


def _places(key: str, sections: Sections) -> str:
    """The dotted keys of a key that has no section, or of the key that it is a misspelling of; may be empty."""
    if places := _exact_places(key, sections):
        return places
    known = [*sections, *(name for models in sections.values() for name in _keys(models))]
    nearest = next(iter(difflib.get_close_matches(key, known, n=1, cutoff=_CUTOFF)), None)
    if nearest is None:
        return ""
    return repr(nearest) if nearest in sections else _exact_places(nearest, sections)


def _exact_places(key: str, sections: Sections) -> str:
    """The dotted keys of a key, or of what it is short for."""
    key = _SHORT_FORMS.get(key, key)
    return " or ".join(f"'{section}.{key}'" for section, models in sections.items() if key in _keys(models))


def _keys(models: Iterable[type[BaseModel]]) -> set[str]:
    """The keys that models accept, with those of earlier versions."""
    keys: set[str] = set()
    for model in models:
        keys |= {field.alias or name for name, field in model.model_fields.items()}
        keys |= set(model.renamed_keys) if issubclass(model, StrictModel) else set()
    return keys
