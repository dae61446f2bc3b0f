"""Plugins: modules of a user's own that add entries to the registries, imported once a process.

A space file or a run file names them (`plugins: [my_module, my_file.py]`), `--plugin` does, or a package that is
installed announces one in the entry-point group `se_nas.plugins`. A plugin is code: whoever names one runs it, and one
that a file names by its path is said aloud before it runs.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import itertools
import logging
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from se_nas.errors import ConfigError
from se_nas.records.files import from_home, write_atomic
from se_nas.records.record import Record, read_record, write_record
from se_nas.records.registry import adding

GROUP = "se_nas.plugins"
#: In a folder of ours: the record of the plugins that it was made with, and where the copies of their files lie.
RECORD = "plugins.json"
COPIES = "plugins"

_log = logging.getLogger(__name__)


class PluginRecord(Record):
    """What a folder or a file of ours says of one plugin that it was made with.

    Attributes:
        name: a module, or the path of a copy, relative to the folder.
        version: the module's `__version__`, or that of its distribution, where it has one.
        sha256: of a plugin that is a file.
        installed: whether an installed package announced it; it is not needed where nothing of it is named.
    """

    name: str
    version: str | None = None
    sha256: str | None = None
    installed: bool = False


class _Recorded(Record):
    format: Literal["se_nas plugins"] = "se_nas plugins"
    version: Literal[1] = 1
    plugins: tuple[PluginRecord, ...]


@dataclass(frozen=True)
class Plugin:
    """A plugin that this process has imported.

    Attributes:
        name: the module's, or of a file its path.
        content: of a file.
    """

    name: str
    version: str | None
    content: bytes | None = None
    installed: bool = False

    @property
    def sha256(self) -> str | None:
        """Of a file's content."""
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


# by the module's name, or of a file by the checksum of its content: a run's copy is the file that it was copied from
_loaded: dict[str, Plugin] = {}
_installed_are_loaded = False


def loaded_plugins() -> tuple[Plugin, ...]:
    """All that this process has imported, in their order."""
    return tuple(_loaded.values())


def load_plugins(words: object, source: str) -> list[Plugin]:
    """Import what `plugins:` of a file names, and what is installed; the plugins that are named.

    Args:
        words: the value under `plugins`: modules, and paths of .py files relative to the file.
        source: the file. Where a record of plugins lies beside it, theirs must be as it says.

    Raises:
        ConfigError: a plugin is missing, raises when it is imported, or is another one than was recorded.
    """
    load_installed()
    if words is None:
        return []
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) and word for word in words):
        raise ConfigError(source, [f"plugins: must be a list of modules and .py files, but got {words!r:.80}"])
    record = Path(source).parent / RECORD
    known = {p.name: p for p in read_record(_Recorded, record).plugins} if words and record.is_file() else {}
    place = Path(source).parent
    return [_load(word, place, source, f"plugins[{i}]", known.get(word)) for i, word in enumerate(words)]


def load_recorded(records: Iterable[PluginRecord], source: str) -> None:
    """Import again what a file of ours says that it was made with; see `load_plugins`."""
    load_installed()
    for number, record in enumerate(records):
        if record.installed and record.name not in _loaded:
            _log.warning("%s: made beside the installed plugin %s, which is not installed here", source, record.name)
        else:
            _load(record.name, Path(source).parent, source, f"plugins[{number}]", record)


def load_again(plugins: Sequence[Plugin]) -> None:
    """Import, in a process that another one has begun, what that one has."""
    for plugin in plugins:
        if plugin.content is None:
            _load(plugin.name, Path(), plugin.name, "plugin", None)
        else:
            _run_file(Path(plugin.name), plugin.content, "plugin", plugin.name)


def load_installed() -> None:
    """Import what installed packages announce in the entry-point group; once a process."""
    global _installed_are_loaded
    if _installed_are_loaded:
        return
    _installed_are_loaded = True
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.module not in _loaded:
            distribution = f" of {entry.dist.name}" if entry.dist else ""
            module = _imported(entry.module, f"entry point {entry.name}{distribution}", GROUP)
            _loaded[entry.module] = Plugin(entry.module, _version(module, entry.module), installed=True)


def plugin_records(plugins: Sequence[Plugin]) -> list[PluginRecord]:
    """What a folder with copies of these plugins says of them; two files of one name are told apart."""
    taken: set[str] = set()
    records = []
    for plugin in dict.fromkeys(plugins):
        name = plugin.name
        if plugin.content is not None:
            stem = Path(plugin.name).stem
            places = (f"{COPIES}/{stem}{f'_{number}' if number else ''}.py" for number in itertools.count())
            name = next(place for place in places if place not in taken)
            taken.add(name)
        records.append(
            PluginRecord(name=name, version=plugin.version, sha256=plugin.sha256, installed=plugin.installed)
        )
    return records


def copy_plugins(folder: Path, plugins: Sequence[Plugin]) -> list[PluginRecord]:
    """Copy the files of plugins into a folder, so that it is complete; what is to be said of them there.

    Raises:
        OutputError: the folder cannot be written to.
    """
    records = plugin_records(plugins)
    for record, plugin in zip(records, dict.fromkeys(plugins), strict=True):
        if plugin.content is not None:
            path = folder / record.name
            if not path.is_file() or path.read_bytes() != plugin.content:
                write_atomic(path, plugin.content)
    return records


def write_plugins(folder: Path, plugins: Sequence[Plugin]) -> None:
    """Copy plugins into the folder of a run and record them, with those that are installed; nothing where none is."""
    records = copy_plugins(folder, [*plugins, *(plugin for plugin in loaded_plugins() if plugin.installed)])
    if records:
        write_record(folder / RECORD, _Recorded(plugins=tuple(records)))


def check_plugins(folder: Path, plugins: Sequence[Plugin]) -> None:
    """Raise ConfigError where a file among the plugins is not the one that the run in a folder began with."""
    path = folder / RECORD
    before = {record.name: record for record in read_record(_Recorded, path).plugins} if path.exists() else {}
    for record, plugin in zip(plugin_records(plugins), dict.fromkeys(plugins), strict=True):
        if record.name in before and before[record.name].sha256 != record.sha256:
            must = "must be the file of the run that --resume continues"
            raise ConfigError("plugins", [f"{plugin.name}: {must}, {folder / record.name}, but it is another"])


def _load(word: str, folder: Path, source: str, at: str, record: PluginRecord | None) -> Plugin:
    if word.endswith(".py"):
        path = folder / from_home(word, source)
        try:
            content = path.read_bytes()
        except OSError as error:
            must = "must be the file of a plugin, but it cannot be read"
            raise ConfigError(source, [f"{at}: {path} {must} ({error.strerror})"]) from error
        if record is not None and hashlib.sha256(content).hexdigest() != record.sha256:
            must = "must be the file that was recorded, but its sha256 is another one"
            raise ConfigError(source, [f"{at}: {path} {must}"])
        return _run_file(path, content, at, source)
    if word not in _loaded:
        module = _imported(word, source, at)
        _loaded[word] = Plugin(word, _version(module, word))
    if record is not None and record.version != _loaded[word].version:
        here = _loaded[word].version
        _log.warning("%s: made with plugin %s of version %s, but here it is %s", source, word, record.version, here)
    return _loaded[word]


def _run_file(path: Path, content: bytes, at: str, source: str) -> Plugin:
    digest = hashlib.sha256(content).hexdigest()
    if digest in _loaded:
        return _loaded[digest]
    _log.warning("%s names a plugin, whose code runs now: %s", source, path)
    name = f"se_nas_plugin_{path.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle, dataclasses and pydantic look for it
    try:
        with adding():
            # these very bytes, and no file of bytecode left beside them
            exec(compile(content, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(source, [f"{at}: {path} {_raised(error)}"]) from error
    version = getattr(module, "__version__", None)
    plugin = _loaded[digest] = Plugin(str(path.resolve()), None if version is None else str(version), content)
    return plugin


def _imported(name: str, source: str, at: str) -> Any:
    try:
        with adding():
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            must = "must be a module that Python finds, but it finds none (a file is named by its path, ending in .py)"
            raise ConfigError(source, [f"{at}: {name} {must}"]) from error
        raise ConfigError(source, [f"{at}: {name} {_raised(error)}"]) from error


def _raised(error: BaseException) -> str:
    """What a plugin raised, and the line of its own that did."""
    # the innermost module that was being run: what its line called is of no help to who wrote it
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name == "<module>"]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "it"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    words = " ".join(str(error).split())
    return f"must be a plugin that can be imported, but {where} raised {type(error).__name__}: {words:.200}"


def _version(module: Any, name: str) -> str | None:
    version = getattr(module, "__version__", None)
    if version is not None:
        return str(version)
    try:
        return importlib.metadata.version(name.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
