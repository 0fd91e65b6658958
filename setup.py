"""Adds the folder configs/ to the wheel, as files of the package pipelines; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the configs into the built package; an editable install reads those of the checkout."""

    def run(self) -> None:
        """Copies modules and configs."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "pipelines", "configs")
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(Path("configs").glob("*.yaml")):
                self.copy_file(str(path), str(target / path.name))


setup(cmdclass={"build_py": BuildWithConfigs})
