"""What a learner hands in for a plugin: x.cu, x.cuh, x_plugin.cpp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from course.errors import MissingFileError


@dataclass(frozen=True)
class Sources:
    """Files of one plugin, in one folder.

    kernels: x.cu, the kernels and their extern "C" launchers. plugin: x_plugin.cpp, the class and its creator. headers:
    *.cuh and *.h beside them.
    """

    kernels: Path
    plugin: Path
    headers: tuple[Path, ...]

    @property
    def name(self) -> str:
        """x."""
        return self.kernels.stem

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.plugin.parent


def find(where: str | Path | Iterable[str | Path]) -> Sources:
    """The plugin's files.

    Args:
        where: a folder with one .cu and one *_plugin.cpp; or the path of either; or both paths.

    Raises:
        MissingFileError: one of them is missing, or there are several.
    """
    given = [Path(where)] if isinstance(where, (str, Path)) else [Path(path) for path in where]
    if len(given) == 1 and not given[0].is_dir():
        stem = given[0].stem.removesuffix("_plugin")
        given = [given[0].with_name(f"{stem}.cu"), given[0].with_name(f"{stem}_plugin.cpp")]
    if len(given) == 1:
        given = [*sorted(given[0].glob("*.cu")), *sorted(given[0].glob("*_plugin.cpp"))]
    kernels = [path.resolve() for path in given if path.suffix == ".cu"]
    plugins = [path.resolve() for path in given if path.suffix == ".cpp"]
    stems = {path.stem for path in kernels} | {path.stem.removesuffix("_plugin") for path in plugins}
    x = stems.pop() if len(stems) == 1 else "x"
    there = ", ".join(path.name for path in (*kernels, *plugins) if path.is_file())
    for name, found in ((f"{x}.cu", kernels), (f"{x}_plugin.cpp", plugins)):
        if len(found) != 1 or not found[0].is_file():
            raise MissingFileError(
                f"The plugin has {'no' if not found or len(found) == 1 else len(found)} {name}.",
                f"Found: {there or 'nothing'}. A plugin is x.cu (kernels "
                'and extern "C" launchers), x.cuh (the launchers\' declarations), x_plugin.cpp (the class).',
                "Put one of each into one folder, or name the two files.",
            )
    folder = plugins[0].parent
    return Sources(kernels[0], plugins[0], tuple(sorted([*folder.glob("*.cuh"), *folder.glob("*.h")])))
