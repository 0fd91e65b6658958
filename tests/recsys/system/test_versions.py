import pytest

from recsys.errors import InputError
from recsys.system.versions import check_versions, installed_versions

RIGHT = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}


def test_this_environment_matches() -> None:
    check_versions(installed_versions())


@pytest.mark.parametrize("extra", [{}, {"torch": "2.11.0", "torchrec": "1.6.1", "fbgemm-gpu-cpu": "1.6.0"}])
def test_matching_releases(extra: dict[str, str]) -> None:
    check_versions(RIGHT | extra)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (RIGHT | {"torch": "2.12.1"}, "torch 2.12 needs torchrec 1.7 and fbgemm-gpu-cpu 1.7, but .*pip install"),
        (RIGHT | {"torchrec": "1.9.2"}, "torch 2.13 needs torchrec 1.8"),
        (RIGHT | {"fbgemm-gpu-cpu": "1.9.0"}, "fbgemm-gpu-cpu 1.9.0 are installed: pip install fbgemm-gpu-cpu==1.8.0"),
        (RIGHT | {"fbgemm-gpu": "1.8.0"}, "overwrite each other and both are installed"),
        ({"torch": "2.13.0", "torchrec": "1.8.0"}, "fbgemm-gpu-cpu .*is not installed"),
        ({"torch": "2.13.0"}, "torchrec is not installed"),
        ({"torch": "2.10.0", "torchrec": "1.5.0", "fbgemm-gpu-cpu": "1.5.0"}, "too old: torch 2.11 to 2.13 go with"),
        ({}, "torch is not installed"),
    ],
)
def test_mismatch_gives_a_one_line_error(found: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_versions(found)
    assert "\n" not in str(caught.value)
