"""Files that come with the package, found by name: search spaces with the published networks, run files and recipes.

In a clone the first two are the folders search_spaces/ and runs/ of the repository; a wheel holds copies of both.
"""

from __future__ import annotations

import os
from pathlib import Path

from se_nas.errors import ConfigError, OutputError, did_you_mean, short
from se_nas.records.files import from_home, write_atomic

_PACKAGE = Path(__file__).resolve().parents[1]
#: The folder that holds both, with the same places relative to each other as in the repository.
ROOT = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent
SPACE_FOLDER, RUN_FOLDER = ROOT / "search_spaces", ROOT / "runs"


def spaces() -> dict[str, Path]:
    """The search spaces by name, then the published networks, which are spaces of one network."""
    return _named(SPACE_FOLDER) | _named(SPACE_FOLDER / "baselines")


def run_files() -> dict[str, Path]:
    """The run files by name."""
    return _named(RUN_FOLDER)


def recipes() -> dict[str, Path]:
    """The recipes by name."""
    return _named(_PACKAGE / "training" / "recipes")


def find_space(name_or_path: str | os.PathLike[str], beside: Path | None = None) -> Path:
    """The file of a space, whose path may be relative to the folder `beside`; see `find_file`."""
    return find_file(name_or_path, spaces(), "search space or published network", beside or Path())


def find_run_file(name_or_path: str | os.PathLike[str]) -> Path:
    """A run file; see `find_file`."""
    return find_file(name_or_path, run_files(), "run file", Path())


def find_file(word_or_path: str | os.PathLike[str], known: dict[str, Path], kind: str, beside: Path) -> Path:
    """The path where a file is there, else the shipped file of that name.

    A word with a separator or a suffix can only be a path, which whoever reads it will find missing.

    Raises:
        ConfigError: there is neither; it lists the names.
    """
    word = os.fspath(word_or_path)
    path = beside / from_home(word, short(word))
    if path.is_file() or path.suffix or path.name != word:
        return path
    if word not in known:
        must = f"must be a file or the name of a shipped {kind}, one of {', '.join(known)}"
        raise ConfigError(short(word), [f"{must}{did_you_mean(word, known)}"])
    return known[word]


def place_of_results(path: Path) -> Path:
    """Where what is made of a file goes: beside it; into the working folder where it was found by its name."""
    return Path() if path in {*spaces().values(), *run_files().values()} else path.parent


def copy_shipped(folder: Path) -> list[Path]:
    """Copy the spaces and the run files into a folder, for editing, and return the copies.

    Raises:
        OutputError: files of these names stand there, or the folder cannot be written to.
    """
    wanted = {folder / path.relative_to(ROOT): path for path in (*spaces().values(), *run_files().values())}
    if there := [path for path in wanted if path.exists()]:
        raise OutputError(
            f"{folder}: must hold none of the files to be copied, but holds {there[0].relative_to(folder)}"
        )
    for copy, path in wanted.items():
        write_atomic(copy, path.read_bytes())
    return list(wanted)


def _named(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
