"""Classes and functions of the user's own, found by the path `package.module:Name`.

Importing a module runs its code. An object is therefore imported only where the user of this process names it: on the
command line, in a config or plan, or in Python. The path that a run folder or a prepared data set recorded is never
enough, because such a folder may come from somebody else.
"""

import importlib
from collections.abc import Callable

from recsys.errors import InputError
from recsys.patterns import nearest

SEPARATOR = ":"
_named: dict[str, object] = {}
"""The objects that the user of this process named, by path."""


def is_path(name: str) -> bool:
    """Whether a name is the path of an object, `package.module:Name`."""
    return SEPARATOR in name


def path_of(value: type | Callable[..., object]) -> str:
    """The path of a class or function, which finds it again in a process that can import its module."""
    return f"{value.__module__}{SEPARATOR}{value.__qualname__}"


def name_object(path: str) -> object:
    """Imports an object that the user named.

    Raises:
        InputError: if there is no such module or object.
    """
    if path in _named:
        return _named[path]
    module_name, _, object_name = path.partition(SEPARATOR)
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        missing = getattr(error, "name", None)
        if missing is not None and missing != module_name and not module_name.startswith(f"{missing}."):
            raise InputError(f"{path}: importing {module_name} fails: {error}: install it") from error
        raise InputError(
            f"{path}: no module {module_name!r}: name a file of the working folder or of an installed package, such "
            "as my_package.my_file:MyModel"
        ) from error
    value: object = module
    for part in object_name.split("."):
        value = getattr(value, part, None)
    if value is None:
        defined = [name for name, member in vars(module).items() if getattr(member, "__module__", "") == module_name]
        raise InputError(f"{path}: {module_name} has no {object_name!r}{nearest(object_name, defined)}")
    return add_object(path, value)


def add_object(path: str, value: object) -> object:
    """Adds an object that the user has in this process; returns it."""
    _named[path] = value
    return value


def named_object(path: str, cure: str) -> object:
    """An object that the user of this process named.

    Args:
        path: its path.
        cure: how the user can name it.

    Raises:
        InputError: if only a file named it.
    """
    if path not in _named:
        raise InputError(f"{path} is code that a folder names, and importing it runs its code: if you trust it, {cure}")
    return _named[path]


def named_objects() -> list[object]:
    """All objects that the user of this process named."""
    return list(_named.values())
