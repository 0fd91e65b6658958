"""Checks that torch, fbgemm and torchrec are of one release, before any of them is imported.

A mismatch otherwise ends in missing symbols or operators, far from its cause.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from recsys.errors import InputError

_TORCH_AHEAD = 5
"""torchrec and fbgemm 1.x are built for torch 2.(x + 5): 1.8 for 2.13, as FBGEMM's release table says."""
_CURE = "run `make demo` for a fresh environment, or see Installing in the README"


def installed_versions() -> dict[str, str]:
    """The versions of the packages that must match, those that are installed."""
    found = {}
    for package in ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def check_versions(found: Mapping[str, str]) -> None:
    """Refuses packages that do not belong together.

    Args:
        found: version by package, as `installed_versions` gives them.

    Raises:
        InputError: one sentence with the versions and what to install.
    """
    have = ", ".join(f"{package} {number}" for package, number in found.items()) or "none of them"
    for package in ("torch", "torchrec"):
        if package not in found:
            raise InputError(f"{package} is not installed: {_CURE}")
    if "fbgemm-gpu" in found and "fbgemm-gpu-cpu" in found:
        raise InputError(
            "fbgemm-gpu and fbgemm-gpu-cpu overwrite each other and both are installed (torchrec's metadata asks for "
            "the former): uninstall both, then install the one for this machine and torchrec with --no-deps"
        )
    fbgemm = next((package for package in found if package.startswith("fbgemm-gpu")), "fbgemm-gpu-cpu")
    if fbgemm not in found:
        raise InputError(f"fbgemm-gpu-cpu (or fbgemm-gpu, with a GPU) is not installed: {_CURE}")
    minor = {package: _minor(number) for package, number in found.items()}
    wanted = minor["torch"] - _TORCH_AHEAD
    if minor["torchrec"] != wanted or minor[fbgemm] != wanted:
        raise InputError(
            f"torch 2.{minor['torch']} needs torchrec 1.{wanted} and {fbgemm} 1.{wanted}, but {have} are installed: "
            f"pip install {fbgemm}==1.{wanted}.0 && pip install --no-deps torchrec==1.{wanted}.0"
        )


def _minor(number: str) -> int:
    try:
        return Version(number).minor
    except InvalidVersion:
        return -1


def exit_on_mismatch() -> None:
    """Ends the program with code 2 and one line when the installed packages do not belong together."""
    try:
        check_versions(installed_versions())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
