from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_nas.errors import ArchitectureError, ConfigError
from se_nas.records.files import write_json
from se_nas.search.black_box.evaluation import Unjudged
from se_nas.search.black_box.evaluators.table import TableEvaluator
from se_nas.space.architecture import Architecture
from se_nas.space.search_space import SearchSpace
from se_nas.space.yaml.file import parse_space
from tests.helpers.tiny_runs import SPACE


def line(architecture: Architecture, accuracy: Any, **metrics: Any) -> str:
    return json.dumps({"picks": architecture.as_dict(), "accuracy": accuracy, **metrics})


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "table.jsonl"
    path.write_text("".join(text + "\n" for text in lines))
    return path


def faults(space: SearchSpace, folder: Path, lines: list[str], *metrics: str) -> tuple[str, ...]:
    path = write(folder, lines)
    with pytest.raises(ConfigError) as raised:
        TableEvaluator.load(path, space, metrics or ("accuracy",))
    assert raised.value.source == str(path)
    assert all("\n" not in problem for problem in raised.value.problems)
    return raised.value.problems


@given(data=st.data())
def test_a_table_gives_back_what_was_written(
    tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    networks = st.sampled_from(list(tiny_space.enumerate()))
    known = data.draw(st.dictionaries(networks, st.floats(0, 1), min_size=1, max_size=10))
    lines = [line(architecture, accuracy, params=7) for architecture, accuracy in known.items()]
    path = write(tmp_path_factory.mktemp("table"), [*lines, "", lines[0]])
    table = TableEvaluator.load(path, tiny_space, ("params",))
    assert {architecture: table(architecture) for architecture in known} == known
    assert table.metrics == {key: {"accuracy": accuracy, "params": 7.0} for key, accuracy in known.items()}


def test_an_architecture_that_is_not_in_the_table_or_the_space_is_an_error(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    known, other, *_ = tiny_space.enumerate()
    table = TableEvaluator.load(write(tmp_path, [line(known, 0.5)]), tiny_space)
    with pytest.raises(Unjudged, match=r"must be in the table, but it lacks stage1\.depth = "):
        table(other)
    with pytest.raises(ArchitectureError, match="must be of this space"):
        table(Architecture("0" * 16, known.picks))


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (93.2, "line 2: accuracy: must be a share from 0 to 1, but got 93.2; percent must be divided by 100"),
        (-0.1, "line 2: accuracy: must be a share from 0 to 1, but got -0.1"),
        (101, "line 2: accuracy: must be a share from 0 to 1, but got 101"),
        ("0.9", "line 2: accuracy: must be a number, but got '0.9'"),
        (True, "line 2: accuracy: must be a number, but got True"),
        (None, "line 2: accuracy: must be a number, but got None"),
        (math.nan, "line 2: must be JSON, but got: NaN, which is not a number in JSON"),
        (10**400, "line 2: int too large to convert to float"),
    ],
)
def test_an_accuracy_must_be_a_share(tiny_space: SearchSpace, tmp_path: Path, value: Any, fault: str) -> None:
    one, other, *_ = tiny_space.enumerate()
    assert faults(tiny_space, tmp_path, [line(one, 0.5), line(other, value)]) == (fault,)


def test_a_missing_metric_is_named(tiny_space: SearchSpace, tmp_path: Path) -> None:
    architecture = next(tiny_space.enumerate())
    text = json.dumps({"picks": architecture.as_dict(), "params": 3})
    assert faults(tiny_space, tmp_path, [text], "accuracy", "params") == (
        "line 1: must have the metric accuracy, but has picks, params",
    )
    assert faults(tiny_space, tmp_path, [line(architecture, 0.5)], "latency_ms") == (
        "line 1: must have the metric latency_ms, but has picks, accuracy",
    )


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ('{"picks": {"a": 1', "line 2: must be JSON, but got: "),
        ("[1]", "line 2: must be an object with picks, such as "),
        ('{"accuracy": 0.5}', "line 2: must be an object with picks, such as "),
        ('{"picks": 3, "accuracy": 0.5}', "line 2: must be an object with picks, such as "),
        ("[" * 100_000, "line 2: "),
    ],
)
def test_a_line_that_is_no_entry_is_told(tiny_space: SearchSpace, tmp_path: Path, text: str, start: str) -> None:
    good = line(next(tiny_space.enumerate()), 0.5)
    (problem,) = faults(tiny_space, tmp_path, [good, text, good])
    assert problem.startswith(start)


def test_a_table_of_another_space_is_told_by_its_first_lines(tiny_space: SearchSpace, tmp_path: Path) -> None:
    other = parse_space(SPACE, "other")
    lines = [line(architecture, 0.5) for architecture in other.enumerate()]
    problems = faults(tiny_space, tmp_path, lines)
    assert len(problems) == 6
    assert problems[0] == "line 1: space tiny: 'stage2.block1.kernel' is no choice of the space; and 4 more such"
    assert problems[-1] == f"... and {len(lines) - 5} more"


def test_an_option_that_is_none_is_told(tiny_space: SearchSpace, tmp_path: Path) -> None:
    picks = {**next(tiny_space.enumerate()).as_dict(), "stage1.depth": 7}
    (problem,) = faults(tiny_space, tmp_path, [json.dumps({"picks": picks, "accuracy": 0.5})])
    assert problem == "line 1: space tiny: 'stage1.depth' must be one of 1, 2, but got 7"


def test_two_accuracies_of_one_architecture_are_told_also_where_the_picks_differ(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    shallow = next(a for a in tiny_space.enumerate() if a["stage1.depth"] == 1)
    same = json.dumps({"picks": {**shallow.as_dict(), "stage1.block2.kernel": 5}, "accuracy": 0.6})
    assert faults(tiny_space, tmp_path, [line(shallow, 0.5), same]) == (
        "line 2: must be as line 1, which is of the same architecture and has accuracy 0.5, but got accuracy 0.6",
    )


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_table_is_told(tiny_space: SearchSpace, tmp_path: Path, text: str) -> None:
    assert faults(tiny_space, tmp_path, [text]) == ("file: must hold one architecture or more, but it is empty",)


def test_a_file_that_cannot_be_read_is_told(tiny_space: SearchSpace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file: must be readable, but got: No such file"):
        TableEvaluator.load(tmp_path / "none.jsonl", tiny_space)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="file: must be text in UTF-8"):
        TableEvaluator.load(tmp_path / "binary", tiny_space)


def network_table(space: SearchSpace, accuracies: dict[Architecture, dict[str, float]], digest: str) -> dict[str, Any]:
    return {
        "format": "se_nas network table",
        "version": 1,
        "space": {"name": "some space", "digest": digest},
        "data": "synthetic",
        "train_images": 100,
        "test_images": 20,
        "recipe": {"epochs": 1},
        "noise": {"between_seeds": 0.3, "between_networks": 0.5},
        "cpu_seconds": 2.0,
        "latency": {},
        "environments": [],
        "networks": [
            {"picks": a.as_dict(), "accuracies": found, "costs": {"macs": 10, "params": 7}, "cpu_seconds": 1.0}
            for a, found in accuracies.items()
        ],
    }


def test_a_table_of_trainings_is_read_as_their_means(tiny_space: SearchSpace, tmp_path: Path) -> None:
    one, other, third, *_ = tiny_space.enumerate()
    accuracies = {one: {"0": 0.5, "1": 0.75}, other: {"0": 0.25}}
    path = write_json(tmp_path / "table.json", network_table(tiny_space, accuracies, tiny_space.digest))
    table = TableEvaluator.load(path, tiny_space, ("params",))
    assert table.metrics == {one: {"accuracy": 0.625, "params": 7.0}, other: {"accuracy": 0.25, "params": 7.0}}
    with pytest.raises(Unjudged, match="must be in the table"):
        table(third)


@pytest.mark.parametrize("fault", ["another space", "a network of none", "an accuracy above 1"])
def test_a_table_of_trainings_that_is_not_of_the_space_is_one_line(
    tiny_space: SearchSpace, tmp_path: Path, fault: str
) -> None:
    one, *_ = tiny_space.enumerate()
    other_space = fault == "another space"
    digest = "0" * 16 if other_space else tiny_space.digest
    value = network_table(tiny_space, {one: {"0": 1.5 if fault == "an accuracy above 1" else 0.5}}, digest)
    if fault == "a network of none":
        value["networks"][0]["picks"] = {"stage9.depth": 1}
    path = write_json(tmp_path / "table.json", value)
    words = {
        "another space": rf"space\.digest: must be {tiny_space.digest}, .* but got '?0000",
        "a network of none": r"networks\[0\]: .*stage9",
        "an accuracy above 1": r"networks\[0\]\.accuracies\.0: must be less",
    }
    with pytest.raises(ConfigError, match=words[fault]) as raised:
        TableEvaluator.load(path, tiny_space)
    assert len(raised.value.problems) == 1
