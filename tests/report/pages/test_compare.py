"""`se-nas compare`: runs beside each other in a table and a page, from their records alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from se_nas.cost.budget import Budget
from se_nas.errors import ConfigError, OutputError
from se_nas.records.files import write_json
from se_nas.report.pages.compare.page import Comparison, compare, write_comparison
from se_nas.report.pages.compare.reading import read_runs
from se_nas.report.theme.words import ABSENT
from se_nas.space.yaml.file import load_space
from tests.helpers.command_lines import Run, assert_refused
from tests.helpers.tiny_runs import changed, read_json
from tests.report.fake_run import SPACES, fake_evaluations, make_fake_run, make_fake_study

MEASURE: dict[str, Any] = {
    "name": "accuracy",
    "source": "with weights from the supernet",
    "raised": True,
    "highest": 1.0,
    "share": True,
    "on_images": True,
}


def make(folder: Path, seed: int = 0, space: str = "mbconv_digits", **changes: Any) -> Path:
    """A finished run; `changes` are values of its result by path, `__` for each dot."""
    make_fake_run(folder, space, seed=seed, epochs=12)
    result = read_json(folder / "result.json")
    for name, value in changes.items():
        result = changed(result, name.replace("__", "."), value)
    write_json(folder / "result.json", result)
    settings = {
        "name": folder.name,
        "seed": seed,
        "data": {"name": result["data"]["name"], "dir": f"/secret/{seed}"},
        "search": {"strategy": result["search"]["strategy"], "epochs": 12},
        "retrain": {"epochs": 90},
        "nni": {"training_service": {"password": "hunter2"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    write_json(folder / "parts.json", {"seed": seed})
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a, b and c of seeds 0, 1 and 2, and one of another space."""
    home = tmp_path_factory.mktemp("compare")
    for seed, (name, accuracy) in enumerate([("a", 0.90), ("b", 0.92), ("c", 0.94)]):
        validation = 0.80 + 0.01 * seed
        make(home / name, seed, retrain__test_accuracy=accuracy, search__validation_accuracy=validation)
    make(home / "other", 0, "mbconv_cifar")
    return home


def compared(*folders: Path) -> Comparison:
    return compare(read_runs(folders))


def row(found: Comparison, name: str) -> list[tuple[str, bool]]:
    (cells,) = [one.cells for one in found.rows if one.name == name]
    return [(cell.text, cell.best) for cell in cells]


def texts(found: Comparison, name: str) -> list[str]:
    return [text for text, _ in row(found, name)]


def marks(found: Comparison, name: str) -> list[bool]:
    return [best for _, best in row(found, name)]


def test_every_figure_stands_beside_the_others_and_the_best_is_marked(home: Path) -> None:
    found = compared(home / "a", home / "b")
    assert marks(found, "test accuracy") == [False, True]
    assert texts(found, "test accuracy")[0].startswith("90.00 % (95 % ")
    macs = [read_json(home / name / "certificate.json")["costs"][0]["value"] for name in "ab"]
    assert marks(found, "MACs") == [value == min(macs) for value in macs]
    assert all("(counted)" in text for text in texts(found, "MACs"))
    assert all("(measured, 95 % " in text for text in texts(found, "Latency (ms)"))
    assert row(found, "search time") == [("1 h 10 min", False)] * 2  # equal: none is best
    assert texts(found, "seed") == ["0", "1"]
    assert all("✓ kept" in text for text in texts(found, "budgets"))


def test_runs_that_differ_by_their_seed_alone_have_mean_and_spread(home: Path) -> None:
    found = compared(home / "a", home / "b", home / "c")
    (group,) = found.groups
    assert not any(marks(found, "validation accuracy"))  # a seed picks the images of validation too
    assert (group.runs, group.seeds) == (["a", "b", "c"], ["0", "1", "2"])
    assert group.rows[0] == ("test accuracy", "3", "92.00 %", "2.00 %")
    assert group.rows[1] == ("validation accuracy", "3", "81.00 %", "1.00 %")
    assert found.differences == []


def test_a_run_of_another_setting_joins_no_group(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "b", tmp_path / "b")
    settings = yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())
    (tmp_path / "b" / "config.yaml").write_text(yaml.safe_dump(changed(settings, "search.epochs", 13)))
    assert compared(home / "a", tmp_path / "b").groups == []


def test_what_cannot_be_compared_is_said_and_not_marked(home: Path, tmp_path: Path) -> None:
    found = compared(home / "a", home / "other")
    assert any(line.startswith("Other spaces, so ") for line in found.differences)
    assert any(line.startswith("Other data sets, so accuracies cannot be compared") for line in found.differences)
    assert not any(marks(found, "test accuracy"))

    shutil.copytree(home / "b", tmp_path / "b")
    certificate = read_json(tmp_path / "b" / "certificate.json")
    write_json(tmp_path / "b" / "certificate.json", changed(certificate, "latency_conditions.threads", 4))
    found = compared(home / "a", tmp_path / "b")
    assert [line.split(",")[0] for line in found.differences] == ["Other latency conditions"]
    assert not any(marks(found, "Latency (ms)"))

    shutil.copytree(home / "a", tmp_path / "a")
    write_json(tmp_path / "a" / "parts.json", {"seed": 100})
    (line,) = compared(home / "a", tmp_path / "a").differences
    assert line.startswith("Other splits of the training images in spite of one seed")


def test_a_run_that_is_not_finished_is_shown_as_such(home: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(home / "b", begun)
    (begun / "result.json").unlink()
    found = compared(home / "a", begun)
    assert texts(found, "state") == ["finished", "unfinished"]
    assert texts(found, "strategy") == ["differentiable"] * 2
    assert found.left_out[-1] == "begun is not finished"
    assert "unfinished" in write_comparison(tmp_path / "page.html", read_runs([home / "a", begun])).read_text()
    (tmp_path / "too").mkdir()
    shutil.copy(begun / "config.yaml", tmp_path / "too")
    write_comparison(tmp_path / "page.html", read_runs([begun, tmp_path / "too"]))


def test_the_se_of_every_block_stands_in_a_row(home: Path) -> None:
    found = compared(home / "a", home / "other")
    blocks = [read_json(home / name / "architecture.json")["network"]["blocks"] for name in ("a", "other")]
    assert len(found.blocks) == max(map(len, blocks))
    for number, words in enumerate(found.blocks):
        assert words[0] == str(number + 1)
        for one, word in zip(blocks, words[1:], strict=True):
            assert (word == "") == (number >= len(one))
            assert (word == ABSENT) == (number < len(one) and one[number]["se"] is None)


def test_the_page_is_one_file_with_all_fronts_and_no_secret(home: Path, tmp_path: Path) -> None:
    space, budgets = load_space(SPACES / "mbconv_digits.yaml"), [Budget("macs", 1e6)]
    study = make_fake_study(tmp_path / "study", budgets, fake_evaluations(space, budgets, 30))
    result = changed(read_json(study / "result.json"), "search.validation_accuracy", 0.7)
    write_json(study / "result.json", changed(result, "search.measure", MEASURE))
    (study / "config.yaml").write_text("{seed: 0, search: {strategy: optuna}}")
    a = tmp_path / "<b>a"
    shutil.copytree(home / "a", a)
    path = tmp_path / "out" / "compare.html"
    page = write_comparison(path, read_runs([a, study])).read_text()
    assert "<svg" in page
    assert "&lt;b&gt;a" in page
    assert "<b>a" not in page
    assert "hunter2" not in page
    assert "/secret" not in page
    assert not re.search(r"(src|href)=[\"'](?!#|data:)", page)
    write_comparison(path, read_runs([a, study]))  # ours may be written over


def test_the_plot_leaves_out_what_was_measured_otherwise_and_says_so(tmp_path: Path) -> None:
    a = make(tmp_path / "a", 0, search__measure=MEASURE)
    b = make(tmp_path / "b", 1, search__measure={**MEASURE, "name": "miss", "raised": False, "share": False})
    assert compared(a, b).left_out == ["b measured miss"]


def test_a_page_of_something_else_is_not_written_over(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.html: must be free, or a page of se-nas compare"):
        write_comparison(tmp_path / "mine.html", read_runs([home / "a", home / "b"]))
    assert (tmp_path / "mine.html").read_text() == "mine"


def test_folders_that_cannot_be_compared_are_one_line(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"RUN: at least two runs must be given, but got 1"):
        read_runs([home / "a"])
    with pytest.raises(ConfigError, match=r"each run must be given once, but this one is given twice"):
        read_runs([home / "a", home / "b", home / "a" / ".." / "a"])
    with pytest.raises(ConfigError, match=r"must be the folder of a run, but it has no config\.yaml"):
        read_runs([home / "a", tmp_path])
    (tmp_path / "config.yaml").write_text("recipe: {}")
    with pytest.raises(ConfigError, match=r"must be the folder of a search, but its config\.yaml is of something else"):
        read_runs([home / "a", tmp_path])


def test_the_command_prints_the_table_and_writes_the_page(
    home: Path, tmp_path: Path, se_nas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, errors, said = se_nas("compare", home / "a", home / "b")
    assert (code, errors) == (0, [])
    assert "test accuracy" in said
    assert "★" in said
    assert "standard deviation" in said
    assert said.splitlines()[-1] == "page: compare.html"
    assert (tmp_path / "compare.html").exists()
    assert_refused(se_nas("compare", home / "a"), "RUN: at least two runs must be given, but got 1")
