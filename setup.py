"""Copies the files that new projects start with from the repository's root into the built package: there is one of
each. Everything else about the package is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TEMPLATES = ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore")


class WithTemplates(build_py):
    """An editable installation needs no copy: there the root is found beside the source."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._templates():
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        found = super().get_outputs(include_bytecode)
        return found if self.editable_mode else [*found, *(target for _, target in self._templates())]

    def _templates(self) -> list[tuple[str, str]]:
        folder = Path(self.build_lib) / "medsweep" / "project" / "templates"
        return [(name, str(folder / name)) for name in TEMPLATES]


setup(cmdclass={"build_py": WithTemplates})
