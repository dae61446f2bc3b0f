"""The files that a run file names, as they are found again from the run's own folder."""

from __future__ import annotations

from pathlib import Path

from se_nas.errors import ConfigError
from se_nas.records.files import beside, check_regular
from se_nas.records.shipped import find_space
from se_nas.runs.data_folder import with_data_folder
from se_nas.runs.networks.starting_weights import with_whole_paths
from se_nas.runs.networks.teacher import with_whole_teacher
from se_nas.runs.run_file import RunConfig
from se_nas.search.starting import StartingConfig
from se_nas.search.strategies import strategy_of


def with_copies(run_file: Path, config: RunConfig, folder: Path) -> tuple[RunConfig, dict[str, Path]]:
    """The configuration with the files that it names as they will lie in the run's folder, and what to copy there.

    A run that has begun has its copies, so that it can be resumed where the files that it began with are gone. Where
    they are still there, they must be what they were.
    """
    config = _with_places(run_file, config)
    begun = (folder / "config.yaml").exists()
    strategy = strategy_of(config.search)
    copies: dict[str, Path] = {}
    places: dict[str, str] = {}
    for named in strategy.files(config.search):
        path, copy = named.path(run_file), folder / named.copy
        if begun and copy.exists():
            check_regular(copy)
            if path.is_file() and path.read_bytes() != copy.read_bytes():
                must = "must be the file of the run that --resume continues"
                raise ConfigError(
                    f"search.{named.key}", [f"{path}: {must}, of which {copy} is the copy, but it is another"]
                )
        elif named.optional and (begun or not path.exists()):
            continue
        elif not named.optional and not path.is_file():
            raise ConfigError(f"search.{named.key}", [f"{path}: must be a file that can be read, but there is none"])
        else:
            copies[named.copy] = path
        places[named.word] = named.copy
    return config.model_copy(update={"search": strategy.with_files(config.search, places)}), copies


def _with_places(run_file: Path, config: RunConfig) -> RunConfig:
    """The configuration with whole paths of what is read later too, from the run's folder."""
    config = with_data_folder(run_file, config)
    config = config.with_latencies(
        lambda found: found.model_copy(update={"file": found.file and str(beside(run_file, found.file).resolve())})
    )
    if isinstance(config.search, StartingConfig):
        config = config.model_copy(update={"search": with_whole_paths(run_file, config.search)})
    config = config.model_copy(update={"search": with_whole_teacher(run_file, config.search)})
    evidence = config.evidence
    if evidence is None:
        return config
    words = {
        "published": tuple(str(find_space(word, run_file.parent).resolve()) for word in evidence.published),
        "others": tuple(str(beside(run_file, word).resolve()) for word in evidence.others),
    }
    return config.model_copy(update={"evidence": evidence.model_copy(update=words)})
