from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from se_nas.cost.budget import Budget, format_cost
from se_nas.errors import ArchitectureError, ConfigError
from se_nas.records.files import write_json
from se_nas.report.pages.run import write_report
from se_nas.search.black_box.evaluation import Evaluation
from se_nas.space.architecture_file import load_architecture
from se_nas.space.yaml.file import load_space
from tests.helpers.command_lines import parse
from tests.helpers.figures import rendered
from tests.report.fake_evidence import planned
from tests.report.fake_run import SPACES, fake_evaluations, make_fake_run, make_fake_study

RESULTS = Path(__file__).parents[3] / "runs" / "results"
COMMITTED = sorted(path.parent.name for path in RESULTS.glob("*/result.json"))
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that tags nest and collects what a page loads, its ids and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def _note(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for key, value in attributes:
            if tag == "a" and key == "href":
                self.links.append(value or "")
            elif key in ("src", "href", "xlink:href", "data"):
                self.loads.append(value or "")
            if key == "id":
                self.ids.append(value or "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data + " "


def change(path: Path, **entries: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **entries})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fake_run(tmp_path_factory.mktemp("runs") / "whole", epochs=18)


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    with rendered():
        return Page(write_report(run).read_text())


def test_the_page_is_whole_and_loads_nothing(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text()
    assert page.tags["main"] == 1
    assert page.tags["script"] == 0
    assert all(reference.startswith("#") for reference in page.loads)
    assert len(page.ids) == len(set(page.ids))
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)", text)


def test_every_block_appears(run: Path, page: Page) -> None:
    for number, block in enumerate(load_architecture(run / "architecture.json").network.blocks, start=1):
        assert f"Block {number}: {block.words()};" in page.text


def test_the_certificate_appears(run: Path, page: Page) -> None:
    certificate = json.loads((run / "certificate.json").read_text())
    for entry in certificate["budgets"]:
        value = entry["value"]
        assert (f"{value:,}" if isinstance(value, int) else f"{value:.5g}") in page.text
        assert f"{round(entry['limit']):,}" in page.text
    low, high = certificate["budgets"][-1]["ci95"]
    assert f"{low:.4g} to {high:.4g}" in page.text
    assert page.text.count("✓ kept") == len(certificate["budgets"])
    (predicted,) = (entry for entry in certificate["costs"] if entry["how"] == "predicted")
    assert f"{predicted['value']:.5g}" in page.text


def test_the_headline_gives_accuracy_images_and_interval(page: Page) -> None:
    assert re.search(r"93\.42\s+%", page.text)
    assert "10,000 images; 95 % interval 92.92 to 93.89 %" in page.text


def test_warnings_are_gathered_by_epoch(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=33, complete=False)
    assert "30 to 32" in Page(write_report(folder).read_text()).text


def test_a_broken_budget_is_shown_as_broken(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=6, complete=False)
    budget = json.loads((folder / "certificate.json").read_text())["budgets"][0]
    change(folder / "certificate.json", budgets=[{**budget, "limit": budget["value"] / 2, "holds": False}])
    text = Page(write_report(folder).read_text()).text
    assert "1 of 1 budgets broken" in " ".join(text.split())
    assert "✓" not in text
    assert "200.0 %" in text


@rendered()
def test_all_text_is_escaped_and_names_no_folder(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=6, complete=False)
    attack = "<script>alert('x')</script>"
    result = json.loads((folder / "result.json").read_text())
    change(
        folder / "result.json",
        name=attack,
        data={**result["data"], "name": attack},
        environment={**result["environment"], "cpu": attack},
        cost_ledger=[{"part": attack, "seconds": 1.0}],
    )
    configuration = yaml.safe_dump({"data": {"dir": "/mnt/somebody/images", "name": attack}})
    history = json.loads((folder / "search" / "history.json").read_text())
    history[0]["warnings"] = [attack]
    write_json(folder / "search" / "history.json", history)
    text = write_report(folder, configuration).read_text()
    assert Page(text).tags["script"] == 0
    assert "&lt;script&gt;" in text
    assert "somebody" not in text
    assert "/mnt" not in text
    assert "…/images" in text
    assert all(str(tmp_path) in command for command in commands(text))
    assert str(tmp_path) not in re.sub(r'<span class="word">.*?</span>', "", text)


def commands(text: str) -> list[str]:
    """The commands that a page offers, as they are copied."""
    found = re.findall(r"<(?:pre|code)>\s*(<span class=\"word\">.*?)</(?:pre|code)>", text, re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", "", line)).split()) for line in found]


def test_every_command_of_the_page_is_one_that_we_have_and_of_this_very_run(tmp_path: Path) -> None:
    folder = make_fake_study(tmp_path / "a run", BUDGETS, digits_evaluations(40))
    assert not [line for line in commands(write_report(folder).read_text()) if " evidence " in line]  # not retrained
    trained = {"epochs": 3, "seconds": 1.0, "images": 9, "test_accuracy": 0.5, "train_accuracy": 0.5, "test_images": 9}
    change(folder / "result.json", retrain=trained)
    (folder / "retrain").mkdir()
    (folder / "retrain" / "network.pt").touch()
    found = commands(write_report(folder).read_text())
    assert {line.split()[1] for line in found} == {"search", "export", "retrain", "decode", "evidence", "report"}
    for line in found:
        words = shlex.split(line)
        assert words[3 if words[2] == "--from" else 2].startswith(str(folder))
        parse(line.replace("NUMBER", "3"))


def test_the_page_names_a_folder_below_the_working_one_by_its_way_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fake_run(tmp_path / "runs" / "one", "mbconv_digits", epochs=4, complete=False)
    monkeypatch.chdir(tmp_path)
    assert "se-nas report runs/one" in commands(write_report(Path("runs/one")).read_text())


def test_every_link_of_the_page_is_to_something_that_the_run_has(run: Path, page: Page) -> None:
    assert {"architecture.json", "certificate.json", "result.json", "config.yaml", "search/history.json"} <= set(
        page.links
    )
    assert {"retrain/history.json", "plots"} <= set(page.links)
    assert all((run / link).exists() for link in page.links)
    assert "retrain/export" not in page.links


def test_the_page_links_to_exports_where_the_command_that_it_names_writes_them(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False)
    (folder / "retrain" / "export").mkdir(parents=True)
    assert "retrain/export" in Page(write_report(folder).read_text()).links


def test_the_page_begins_with_the_verdict_on_budgets_and_accuracy(run: Path, page: Page) -> None:
    first = " ".join(page.text.split()).partition("What next")[0]
    assert "All 3 budgets are kept : " in first
    for entry in json.loads((run / "certificate.json").read_text())["budgets"]:
        value, limit = (format_cost(entry["metric"], entry[name]) for name in ("value", "limit"))
        assert f"{value} of at most {limit} ({entry['how']})" in first
    assert "Trained from scratch it gets 93.42 % of 10,000 test images right (95 % interval 92.92 to 93.89 %)." in first
    assert "This answer was compared with nothing : whether a random network" in first
    assert "--part controls" in first


@rendered()
def test_the_page_begins_with_the_claim_and_what_stands_beside_it(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False)
    write_json(folder / "evidence/controls.json", found := planned(0.04, claim="random_best"))
    write_json(folder / "evidence/plan.json", found["plan"])
    text = write_report(folder).read_text()
    told = " ".join(Page(text).text.split()).partition("What next")[0]
    assert "compared with nothing" not in told
    assert "Trained from scratch" not in told
    beside = [f"Against {words}: " for words in ("no SE anywhere", "SE everywhere, r = 4", "SE everywhere, r = 16")]
    places = list(map(told.index, ("The claim holds", "noise and spread", "SE placed", "The budget is kept", *beside)))
    assert places == sorted(places)
    assert "This answer is better than the average random network of equal budgets" in told
    figure = text.index('id="trainings-')
    assert text.index("The claim holds") < figure < text.index("noise and spread")
    assert (folder / "plots/trainings.png").exists()


def test_a_run_has_a_row_a_metric(run: Path, page: Page) -> None:
    text = (run / "report.html").read_text()
    (table,) = re.findall(r"<th>cost</th>.*?</table>", text, re.DOTALL)
    rows = re.findall(r"<tr><td>(\w+)", table)
    assert rows == ["MACs", "Parameters", "Latency"]
    latency = {entry["how"]: entry for entry in json.loads((run / "certificate.json").read_text())["costs"][2:]}
    low, high = latency["measured"]["ci95"]
    words = " ".join(re.sub(r"<[^>]+>", " ", table).split())
    assert f"{latency['measured']['value']:.5g} ({low:.4g} to {high:.4g}, n = 50) measured" in words
    assert f"{latency['predicted']['value']:.5g} (n = 50) predicted" in words


def test_what_the_search_measured_is_one_row_of_the_table_of_the_run(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False)
    result = json.loads((folder / "result.json").read_text())
    measure = {"name": "accuracy", "source": "with the supernet's weights", "lowest": 0.0, "highest": 1.0}
    change(folder / "result.json", search={**result["search"], "measure": measure, "validation_accuracy": 0.5})
    text = " ".join(Page(write_report(folder).read_text()).text.split())
    assert "search measure accuracy with the supernet's weights: 50.00 %" in text
    assert "lowest" not in text


def test_a_run_with_only_what_every_run_has(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=6, complete=False)
    text = Page(write_report(folder).read_text()).text
    assert "not retrained, not tested" in text
    assert "Predicted and measured latency" not in text
    assert "Retraining" not in text
    for name in ("search/history.json", "choices.json"):
        (folder / name).unlink()
    change(
        folder / "result.json",
        search={"strategy": "random", "seconds": 1.0, "images": 0},
        cost_ledger=[],
        retrain=None,
    )
    change(folder / "certificate.json", budgets=[])
    text = Page(write_report(folder).read_text()).text
    assert "no accuracy was measured" in text
    assert "No budget was set." in text
    assert "Learning curves" not in text


def test_a_latency_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=6, complete=False)
    write_json(folder / "latency.json", {"key": {"device": "cpu"}, "report": {"held_out": {"mape": 0.031}}})
    with pytest.raises(ConfigError, match=r"latency\.json: blocks: must be given"):
        write_report(folder)


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_runs_still_give_their_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = shutil.copytree(RESULTS / name, tmp_path / name)
    page = Page(write_report(folder).read_text())
    assert json.loads((folder / "result.json").read_text())["name"] in page.text
    assert ("The Pareto front" in page.text) == (folder / "search" / "evaluations.json").exists()


def test_plots_are_written_beside_the_page(run: Path, page: Page) -> None:
    written = {path.name for path in (run / "plots").iterdir()}
    assert written == {
        "architecture.svg",
        "decisiveness.png",
        "expected_cost.png",
        "latency.png",
        "learning_curves.png",
        "other_probabilities.png",
        "se_probabilities.png",
    }


@pytest.mark.parametrize("name", ["result.json", "certificate.json"])
def test_a_missing_or_foreign_file_is_a_one_line_error(tmp_path: Path, name: str) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False)
    for content in ("[1]", "no json"):
        (folder / name).write_text(content)
        with pytest.raises(ConfigError, match=name) as caught:
            write_report(folder)
        assert "\n" not in str(caught.value)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match="must be readable, but got: No such file"):
        write_report(folder)
    with pytest.raises((ConfigError, ArchitectureError)):
        write_report(tmp_path / "nowhere")


BUDGETS = (Budget("macs", 400e3),)


def digits_evaluations(count: int, epochs: int = 0) -> list[Evaluation]:
    return fake_evaluations(load_space(SPACES / "mbconv_digits.yaml"), BUDGETS, count, epochs=epochs)


def table_rows(text: str) -> list[list[str]]:
    """The rows of the front's table, cell by cell."""
    (table,) = re.findall(r"<h3>The front within.*?</table>", text, re.DOTALL)
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in table.split("<tr")[2:]]


def test_a_black_box_search_shows_its_front_progress_and_importance(tmp_path: Path) -> None:
    evaluations = digits_evaluations(80)
    feasible = sorted((e for e in evaluations if e.feasible), key=lambda e: -float(e.accuracy or 0))
    best = feasible[0]
    known = replace(best, number=80, same_as=best.number)
    lost = replace(best, number=81, state="failed", accuracy=None)
    folder = make_fake_study(tmp_path, BUDGETS, [*evaluations, known, lost], chosen=best.architecture)
    text = write_report(folder).read_text()
    page = Page(text)
    told = f"81 architectures were evaluated, proposed by NSGA-II: {80 - len(feasible)} outside a budget, 1 failed, "
    assert f"{told}1 further proposals of known ones." in page.text
    rows = table_rows(text)
    assert rows[0] == [
        str(best.number),
        f"{100 * float(best.accuracy or 0):.2f} %",
        f"{best.costs['macs'] / 1e3:.4g} k",
        rows[0][3],
        "chosen",
    ]
    blocks = load_architecture(folder / "architecture.json").network.blocks
    assert rows[0][3] == f"{sum(block.se is not None for block in blocks)} of {len(blocks)}"
    assert [row[-1] for row in rows[1:]] == [""] * (len(rows) - 1)
    assert f"{rows[0][1][:-2]} % validation accuracy in the table of known architectures" in " ".join(page.text.split())
    for words in ("Progress of the search", "the hypervolume is what the front", "Which choices mattered"):
        assert words in page.text
    for words in ("How each block chose", "Learning curves", "watchdog", "Predicted and measured", "Training each"):
        assert words not in page.text
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "architecture.svg",
        "importance.png",
        "pareto_fronts.png",
        "progress.png",
    }
    assert len(page.ids) == len(set(page.ids))


def test_a_long_front_is_thinned_and_keeps_the_chosen_one(tmp_path: Path) -> None:
    evaluations = [
        replace(entry, accuracy=0.5 + entry.costs["macs"] / 1e7, excess={"macs": -0.1})
        for entry in digits_evaluations(60)
    ]
    ranked = sorted(evaluations, key=lambda e: -float(e.accuracy or 0))
    folder = make_fake_study(tmp_path, BUDGETS, evaluations, chosen=ranked[7].architecture)
    text = write_report(folder).read_text()
    rows = table_rows(text)
    assert len(rows) == 20
    assert f"20 of {len({entry.architecture for entry in evaluations})}, spread evenly" in text
    assert [row[-1] for row in rows].count("chosen") == 1
    accuracies = [float(row[1][:-2]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == round(100 * float(ranked[0].accuracy or 0), 2)


def test_a_search_in_which_nothing_keeps_the_budget_says_so(tmp_path: Path) -> None:
    evaluations = [replace(entry, excess={"macs": 2.0}) for entry in digits_evaluations(12)]
    text = Page(write_report(make_fake_study(tmp_path, BUDGETS, evaluations)).read_text()).text
    assert "No architecture that was evaluated to the end keeps every budget." in text
    assert "12 outside a budget" in text
    assert "hypervolume" not in text


def test_a_search_of_which_every_evaluation_failed_still_has_a_page(tmp_path: Path) -> None:
    failed = [replace(entry, state="failed", accuracy=None) for entry in digits_evaluations(3)]
    folder = make_fake_study(tmp_path, BUDGETS, failed, objectives=["accuracy"])
    (folder / "search" / "importance.json").unlink()
    counts = {"drawn": 9, "distinct": 8, "unscored": 1, "kept": [], "seconds": 2, "cpu_seconds": 1}
    write_json(folder / "search" / "screen.json", {"format": "se_nas screen", "version": 1, **counts})
    text = Page(write_report(folder).read_text()).text
    assert "3 architectures were evaluated, proposed by NSGA-II: 3 failed. Evaluated first: 0 networks," in text
    assert "of 8 random networks within the budgets, 1 of them without a score." in text
    assert "no accuracy was measured" in text
    assert {path.name for path in (folder / "plots").iterdir()} == {"architecture.svg"}


def test_importance_of_what_is_no_choice_of_the_space_is_one_line(tmp_path: Path) -> None:
    folder = make_fake_study(tmp_path, BUDGETS, digits_evaluations(3), objectives=["accuracy"])
    file = folder / "search" / "importance.json"
    shares = json.loads(file.read_text())
    file.write_text(json.dumps({f"stcge{name[5:]}": share for name, share in shares.items()}))
    with pytest.raises(ConfigError, match=r"importance\.json: file: must hold choices of .* alone, but has 'stcge"):
        write_report(folder)


@rendered()
def test_short_trainings_show_their_curves_and_a_supernet_its_own(tmp_path: Path) -> None:
    evaluations = digits_evaluations(9, epochs=4)
    chosen = next(entry.architecture for entry in evaluations if entry.complete)
    folder = make_fake_study(tmp_path, BUDGETS, evaluations, evaluator="stand_alone", chosen=chosen)
    text = " ".join(Page(write_report(folder).read_text()).text.split())
    assert "validation accuracy after a short training; not retrained" in text
    assert "picked by this very accuracy" in text
    assert "Training each architecture" in text
    assert "ended early (3)" in text
    assert "Supernet:" not in text
    rows = [
        {
            "epoch": e,
            "step": e,
            "loss": 2.0,
            "accuracy": 0.4,
            "lr": 0.1,
            "largest_accuracy": 0.5,
            "smallest_accuracy": None,
        }
        for e in range(3)
    ]
    write_json(folder / "search" / "history.json", rows)
    text = Page(write_report(folder).read_text()).text
    assert "Supernet: loss" in text
    assert "largest subnet" in text
    assert "smallest subnet" not in text
    assert "choice steps" not in text


def test_evaluations_of_something_else_or_without_their_space_are_a_one_line_error(tmp_path: Path) -> None:
    folder = make_fake_study(tmp_path, BUDGETS, digits_evaluations(3))
    (folder / "space.yaml").rename(folder / "away.yaml")
    with pytest.raises(ConfigError, match=r"space\.yaml"):
        write_report(folder)
    (folder / "away.yaml").rename(folder / "space.yaml")
    change(folder / "search" / "evaluations.json", version=99)
    with pytest.raises(ConfigError, match=r"evaluations\.json"):
        write_report(folder)
