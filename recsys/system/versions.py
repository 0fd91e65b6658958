"""Checks that the versions of torch, fbgemm and torchrec match, before any of them is imported.

Otherwise a mismatch causes errors about missing symbols or operators, far from its origin.
"""

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from recsys.errors import InputError

OLDEST, NEWEST = 11, 13
"""Minor versions of torch 2.x with which the tests pass."""
_MINOR_OFFSET = 5
"""torchrec and fbgemm 1.x are built for torch 2.(x + 5), such as 1.8 for 2.13. Source: FBGEMM's release table."""
RANGE = (
    f"torch 2.{OLDEST} to 2.{NEWEST} go with torchrec and fbgemm "
    f"1.{OLDEST - _MINOR_OFFSET} to 1.{NEWEST - _MINOR_OFFSET}"
)
_FIX = "pip install 'gatectr[cpu]' (or [gpu]), then pip install --no-deps torchrec==1.8.0; in a checkout, `make demo`"


def installed_versions() -> dict[str, str]:
    """Returns the versions of those packages that must match and are installed."""
    versions = {}
    for package in ("torch", "torchrec", "fbgemm-gpu", "fbgemm-gpu-cpu"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def check_versions(versions: Mapping[str, str]) -> None:
    """Checks that the installed packages match.

    Args:
        versions: by package, from `installed_versions`.

    Raises:
        InputError: for packages that do not match, with the versions and what to install.
    """
    installed = ", ".join(f"{package} {number}" for package, number in versions.items()) or "none of them"
    for package in ("torch", "torchrec"):
        if package not in versions:
            raise InputError(f"{package} is not installed: {_FIX}")
    if "fbgemm-gpu" in versions and "fbgemm-gpu-cpu" in versions:
        raise InputError(
            "fbgemm-gpu and fbgemm-gpu-cpu overwrite each other and both are installed (torchrec's metadata requires "
            "fbgemm-gpu): uninstall both, then install the one for this machine and torchrec with --no-deps"
        )
    fbgemm = next((package for package in versions if package.startswith("fbgemm-gpu")), "fbgemm-gpu-cpu")
    if fbgemm not in versions:
        raise InputError(f"fbgemm-gpu-cpu (or fbgemm-gpu, with a GPU) is not installed: {_FIX}")
    minors = {package: _minor(number) for package, number in versions.items()}
    minor = minors["torch"] - _MINOR_OFFSET
    if minors["torch"] < OLDEST:
        raise InputError(f"torch 2.{minors['torch']} is too old: {RANGE}; {_FIX}")
    if minors["torchrec"] != minor or minors[fbgemm] != minor:
        raise InputError(
            f"{RANGE}; torch 2.{minors['torch']} needs torchrec 1.{minor} and {fbgemm} 1.{minor}, "
            f"but {installed} are installed: pip install {fbgemm}==1.{minor}.0 && "
            f"pip install --no-deps torchrec==1.{minor}.0"
        )


def _minor(number: str) -> int:
    try:
        return Version(number).minor
    except InvalidVersion:
        return -1


def exit_on_mismatch() -> None:
    """Exits with code 2 and one line if the installed packages do not match."""
    try:
        check_versions(installed_versions())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
