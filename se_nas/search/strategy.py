"""What a way to search is: an entry of `STRATEGIES`, which knows all that the rest of the house must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from se_nas.errors import ConfigError
from se_nas.hardware.lines import Say
from se_nas.records.files import beside
from se_nas.search.black_box.config import OptunaConfig
from se_nas.search.problem import SearchProblem
from se_nas.search.result import SearchResult
from se_nas.search.strategy_config import StrategyConfig
from se_nas.space.search_space import SearchSpace

Config = TypeVar("Config", bound=StrategyConfig)


@dataclass(frozen=True)
class NamedFile:
    """A file that `search:` names, of which the run's folder gets a copy.

    Attributes:
        key: under which it stands in `search:`.
        word: what stands there: a path, relative to the run file; of a folder its architecture.json is meant.
        copy: where the copy lies in the run's folder.
        optional: whether the word may stand for something else than a file.
    """

    key: str
    word: str
    copy: str
    optional: bool = False

    def path(self, run_file: Path) -> Path:
        """The file itself."""
        path = beside(run_file, self.word)
        return path / "architecture.json" if path.is_dir() else path


class Strategy(Generic[Config]):
    """One way to search. An entry gives `search`, and `config` where it has one; the rest is what few strategies have.

    Under NNI each trial is a whole search, one for each seed and each set of budgets, unless `study` says otherwise.

    Attributes:
        config: the model of `search:` in a run file.
        file_keys: the keys of it that name files; see `files`.
    """

    config: type[Any] = StrategyConfig
    file_keys: tuple[str, ...] = ()

    def search(self, problem: SearchProblem, config: Config) -> SearchResult:
        """Do, or finish, the whole search.

        What it learned lies in `problem.folder` as `search.result.SCORES` or `EVALUATIONS`, where other budgets are to
        be answered from it. `problem.on_epoch`, if any, is called with a mapping of `epoch` and any numbers.
        """
        raise NotImplementedError

    def model(self) -> type[Config]:
        """The model of `search:` with what the registries have by now."""
        model: type[Config] = self.config
        return model

    def metrics(self, config: Config) -> Mapping[str, str]:
        """The metrics whose cost tables it needs beside those of the budgets, each with the key that asks for it."""
        return {}

    def files(self, config: Config) -> tuple[NamedFile, ...]:
        """The files that the configuration names."""
        return ()

    def with_files(self, config: Config, places: Mapping[str, str]) -> Config:
        """The configuration with other words for files that it names, by the word that stands there."""
        return config

    def check(self, config: Config, space: SearchSpace, files: Mapping[str, Path], say: Say) -> None:
        """Refuse what does not fit the space, before anything is written.

        Args:
            config: as `with_files` gave it.
            files: what is to be copied, by the place of the copy.
        """

    def calibration_images(self, config: Config) -> int:
        """How many images the batch norms of inherited weights are averaged over, where it leaves a supernet."""
        return 0

    def supernet_batch(self, config: Config) -> int | None:
        """Images that the supernet's training takes at once, for which memory must be there; None where it trains none.

        Several ranks share them.
        """
        return None

    def check_ranks(self, config: Config, ranks: int) -> None:
        """Refuse several ranks where they cannot share what the search trains.

        Raises:
            ConfigError: they cannot, which is so for every search unless it says otherwise.
        """
        must = f"must be a search whose training {ranks} ranks can share, such as differentiable"
        raise ConfigError("search", [f"strategy: {must}, but is {config.strategy}"])

    def help(self, problem: SearchProblem, config: Config) -> None:
        """The part in the search of a rank other than the first, which does `search` meanwhile: it writes nothing.

        Only of a strategy that `check_ranks` allows several.
        """
        raise NotImplementedError

    def study(self, config: Config) -> OptunaConfig | None:
        """How it is driven as one study whose evaluations other processes share; None where they cannot.

        With a study, workers on a shared storage may join the search, and under NNI each trial is one architecture.
        """
        return None
