from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fake_run import make_fake_run

from se_nas.errors import ArchitectureError, ConfigError
from se_nas.evidence.report import write_report
from se_nas.files import write_json
from se_nas.space.architecture import load_architecture

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Checks that tags nest and collects what a page loads, its ids and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def _note(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for key, value in attributes:
            if key in ("src", "href", "xlink:href", "data"):
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
    assert "broken" in text
    assert "✓" not in text
    assert "200.0 %" in text


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
    (folder / "config.yaml").write_text(f"data: {{dir: /mnt/somebody/images}}  # {attack}")
    history = json.loads((folder / "search" / "history.json").read_text())
    history[0]["warnings"] = [attack]
    write_json(folder / "search" / "history.json", history)
    text = write_report(folder).read_text()
    assert Page(text).tags["script"] == 0
    assert "&lt;script&gt;" in text
    assert "somebody" not in text
    assert "/mnt" not in text
    assert "…/images" in text
    assert str(tmp_path) not in text


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
        search={"strategy": "random"},
        environment={},
        cost_ledger=[],
        retrain=None,
        data={},
        space={},
    )
    change(folder / "certificate.json", cross_check={}, environment={}, budgets=[])
    text = Page(write_report(folder).read_text()).text
    assert "no accuracy was measured" in text
    assert "No budget was set." in text
    assert "Learning curves" not in text


def test_a_latency_file_without_its_points_still_gives_its_figures(tmp_path: Path) -> None:
    folder = make_fake_run(tmp_path, "mbconv_digits", epochs=6, complete=False)
    write_json(folder / "latency.json", {"key": {"device": "cpu"}, "report": {"held_out": {"mape": 0.031}}})
    text = Page(write_report(folder).read_text()).text
    assert "3.1 %" in text
    assert not (folder / "plots" / "latency.png").exists()


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
    with pytest.raises(ConfigError, match="needs this file"):
        write_report(folder)
    with pytest.raises((ConfigError, ArchitectureError)):
        write_report(tmp_path / "nowhere")
