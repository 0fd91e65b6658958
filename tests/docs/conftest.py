"""Runs the code blocks of a page of the documentation in their order, in a folder of their own."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from gatectr import command
from recsys import own_code

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INCLUDE = re.compile(r"<!-- include: (\S+) -->")

Page = Callable[[str], list[str]]


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(language, text) of the code blocks of a page."""
    return _BLOCK.findall(text_of(page))


def text_of_blocks(text: str, languages: tuple[str, ...]) -> list[str]:
    """The code blocks of these languages, each with its continued lines joined."""
    return [block.replace("\\\n", " ") for language, block in _BLOCK.findall(text) if language in languages]


def exit_code_of(main: Callable[[], None]) -> object:
    try:
        main()
    except SystemExit as stopped:
        return stopped.code
    return 0


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Page:
    """`follow("tutorials/x.md")` runs python and bash blocks and writes files; it returns what each printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "begin", lambda module: None)  # the handlers of a process that only runs a command
    monkeypatch.setattr(own_code, "_named", {})
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_model", "my_parts"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run_line(line: str) -> None:
        program, *arguments = shlex.split(line)
        assert program == "gatectr", f"{line}: blocks of other programs are of the language console"
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [program, *arguments])
            patch.setattr(sys, "path", list(sys.path))
            code = exit_code_of(command.main)
        assert not code, f"{line}: {capsys.readouterr().err}"

    def run_page(page: str) -> list[str]:
        names: dict[str, object] = {"__name__": "page"}
        printed = []
        for included in _INCLUDE.findall(text_of(page)):
            shutil.copy(DOCS.parent / included, Path(included).name)
        for language, text in blocks_of(page):
            if language == "python":
                exec(compile(text, page, "exec"), names)
            elif language == "yaml":
                yaml.safe_load(text)
                if name := re.match(r"# (\S+\.yaml)\n", text):
                    Path(name[1]).write_text(text, encoding="utf-8")
            elif language == "bash":
                for line in text.replace("\\\n", " ").splitlines():
                    run_line(line)
            captured = capsys.readouterr()
            printed.append(captured.out)
        return printed

    return run_page
