from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from se_nas.errors import ConfigError
from se_nas.records.files import write_atomic, write_json
from se_nas.records.models.evidence import ComparisonEntry
from se_nas.report.pages.evidence.sections import EvidenceParts, evidence_sections
from se_nas.report.pages.evidence.words import verdict
from se_nas.report.pages.render import render
from se_nas.report.pages.run import write_report
from tests.helpers.figures import rendered
from tests.report import fake_evidence as fake
from tests.report.fake_run import make_fake_run
from tests.report.pages.test_run import Page

Json = dict[str, Any]

COMMANDS = ["controls", "ranking", "stability", "where-se-pays", "latency", "ledger"]


def html_of(parts: EvidenceParts) -> str:
    """The sections, each figure as its name."""
    return render("evidence.html", evidence=parts, figures={name: Markup(f"<i>{name}</i>") for name in parts.figures})


def shown(parts: EvidenceParts) -> str:
    """The sections' text."""
    page = Page(html_of(parts))
    return re.sub(r"\s+", " ", page.text)


def only(tmp_path: Path, **part: Json) -> str:
    for name, found in part.items():
        write_json(tmp_path / "evidence" / f"{name}.json", found)
    return shown(evidence_sections(tmp_path, "RUN"))


def comparison(**estimate: Any) -> ComparisonEntry:
    return ComparisonEntry(ours="answer", label="the other", theirs=("other",), **estimate)


def of_random(value: float, low: float, high: float, **more: Any) -> Json:
    """Controls whose comparison with the random networks came out so."""
    found = fake.controls()
    estimate = {"value": value, "low": low, "high": high, "excludes_zero": low > 0 or high < 0, "p_holm": None, **more}
    found["comparisons"][0] |= estimate
    return found


def test_a_run_without_evidence_has_no_sections(tmp_path: Path) -> None:
    parts = evidence_sections(tmp_path, "RUN")
    assert parts.figures == {}
    assert html_of(parts) == ""


def test_the_page_holds_every_part_with_its_figure_and_command(tmp_path: Path) -> None:
    run = fake.make_fake_evidence(make_fake_run(tmp_path / "a run", "mbconv_digits", epochs=4, complete=False))
    text = write_report(run).read_text()
    page = Page(text)
    told = " ".join(page.text.split())
    commands = [f"se-nas evidence {shlex.quote(str(run))} --part {command}" for command in COMMANDS]
    places = [told.rindex(command) for command in commands]
    assert places == sorted(places)
    assert told.index("The architecture") < places[0]
    assert places[-1] < told.index("Certificate")
    assert len(page.ids) == len(set(page.ids))
    drawn = {path.stem for path in (run / "plots").glob("*.png")}
    assert {"controls", "ranking", "stability", "where_se_pays", "latency_check"} <= drawn
    assert "ledger" not in drawn


@pytest.mark.parametrize("part", ["stability", "where_se_pays"])
def test_evidence_of_a_block_that_no_space_has_is_one_line(tmp_path: Path, part: str) -> None:
    folder = fake.make_fake_evidence(make_fake_run(tmp_path, "mbconv_digits", epochs=4, complete=False))
    file = folder / "evidence" / f"{part}.json"
    found = json.loads(file.read_text())
    found["blocks"][0]["block"] = "stcge1.block1"
    file.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match=rf"{part}\.json: blocks\[0\]\.block: string should match"):
        write_report(folder)


def test_the_figures_follow_from_the_json_alone(tmp_path: Path) -> None:
    one, other = (evidence_sections(fake.make_fake_evidence(tmp_path / name), "RUN") for name in "ab")
    assert html_of(one) == html_of(other)


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        ((0.0042, 0.001, 0.0074), "better by 0.42 points (95 % interval 0.10 to 0.74)"),
        ((-0.0042, -0.0074, -0.001), "worse by 0.42 points (95 % interval 0.10 to 0.74)"),
        ((0.0042, -0.001, 0.0094), "no significant difference (+0.42 points, 95 % interval -0.10 to +0.94)"),
        ((0.0, 0.0, 0.0), "no significant difference (0.00 points, 95 % interval 0.00 to 0.00)"),
        ((0.0042, None, None), "+0.42 points; too few pairs for an interval (n = 1)"),
        ((None, None, None), "no pair of trainings yet"),
    ],
)
def test_verdicts_are_plain(estimate: tuple[float | None, ...], words: str) -> None:
    value, low, high = estimate
    excludes = low is not None and high is not None and (low > 0 or high < 0)
    found = comparison(value=value, low=low, high=high, n=1, excludes_zero=excludes)
    assert verdict(found) == words


def test_a_difference_that_many_comparisons_explain_is_not_called_significant() -> None:
    found = comparison(value=0.0042, low=0.001, high=0.0074, n=3, excludes_zero=True, p_holm=0.06)
    assert verdict(found).startswith("no significant difference (+0.42 points")
    assert verdict(found).endswith(", but so many comparisons find that by chance: Holm's p is 0.06)")
    assert verdict(found.model_copy(update={"p_holm": 0.04})).startswith("better by")


@pytest.mark.parametrize(
    ("estimate", "words"),
    [
        (
            (0.004, 0.001, 0.007),
            "This answer is better than the average random network of equal budgets , by 0.40 points (95 % interval",
        ),
        (
            (-0.004, -0.007, -0.001),
            "This answer is worse than the average random network of equal budgets , by 0.40 points (95 % interval",
        ),
        (
            (0.004, -0.001, 0.009),
            "It is not shown that this answer is better than the average random network of equal budgets : against "
            "the mean of 8 random networks, no significant difference (+0.40 points",
        ),
    ],
)
def test_the_headline_is_about_this_answer_and_the_average_random_network(
    tmp_path: Path, estimate: tuple[float, float, float], words: str
) -> None:
    text = only(tmp_path, controls=of_random(*estimate))
    assert words in text
    assert "8 comparisons in all, each over at most 3 seeds, on 10,000 test images" in text
    assert "beats" not in text


def test_one_search_is_said_to_be_one_until_there_are_three(tmp_path: Path) -> None:
    words = "It is one search: another seed may give another answer."
    assert words in only(tmp_path, controls=fake.controls())
    assert words in only(tmp_path, stability=fake.stability(searches=2))
    assert words not in only(tmp_path, stability=fake.stability(searches=3))


def test_the_best_random_network_is_told_beside_the_answers_place(tmp_path: Path) -> None:
    found = fake.controls()
    means = {one["name"]: sum(one["accuracies"].values()) for one in found["networks"]}
    ahead = sum(means[name] > means["answer"] for name in found["comparisons"][1]["theirs"])
    text = only(tmp_path, controls=found)
    assert "Against the best of 8 random networks by training, which random search would hand back: " in text
    assert f"{ahead or 'none'} of the 8 random networks {'is' if ahead < 2 else 'are'} ahead of the answer." in text
    best = max(means[name] for name in found["comparisons"][1]["theirs"]) / 3
    row = rf"the best of 8 random networks by training [^\d%]* {100 * best:.2f} ± \d\.\d\d % \(n = 3\)"
    assert re.search(row, text)
    assert "Intervals cover other seeds of training, on these test images and for this one answer." in text
    assert "how much of each they use stands above" in text


def test_a_diverged_training_is_named_and_a_waiting_one_is_not_called_diverged(tmp_path: Path) -> None:
    found = fake.controls()
    networks = {one["name"]: one for one in found["networks"]}
    networks["random0"] |= {"accuracies": {"0": 0.7}, "failed": {"1": "the loss is nan", "2": "the loss is nan"}}
    networks["random1"] |= {"accuracies": {}, "failed": dict.fromkeys("012", "the loss is nan")}
    networks["random2"] |= {"accuracies": {}}
    for one in found["comparisons"][:2]:
        one |= {"theirs": one["theirs"][3:], "left_out": one["theirs"][:3]}
    text = only(tmp_path, controls=found)
    assert (
        "2 of 8 random networks diverged and are left out: random network 0, random network 1. 1 of 8 random networks "
        "not trained yet with every seed, is left out: random network 2." in text
    )
    assert "70.00 % (n = 1), 2 diverged" in text
    assert re.search(r"random network 1 .{1,60} 3 diverged", text)
    assert re.search(r"random network 2 .{1,60} not trained yet", text)


def test_the_table_of_controls_has_costs_spread_and_p(tmp_path: Path) -> None:
    found = fake.controls()
    found["networks"][1]["accuracies"] = {"0": 0.70, "1": 0.72}
    found["comparisons"][1]["p_holm"] = 0.0004
    text = only(tmp_path, controls=found)
    assert "71.00 ± 1.41 % (n = 2)" in text
    assert "< 0.001" in text
    assert "the mean of 8 random networks 5" in text
    assert "epochs 8 batch size 128 lr 0.1" in text


def test_a_run_still_going_on_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    controls, ranking = fake.controls(), fake.ranking()
    for network in controls["networks"]:
        network["accuracies"] = {"0": None}
    absent = {"value": None, "low": None, "high": None, "n": 0, "excludes_zero": False, "p_holm": None, "by_seed": {}}
    controls["comparisons"] = [{**one, **absent} for one in controls["comparisons"] if not one.get("selected")]
    ranking["sets"][1] = {"name": "whole space", "networks": ranking["sets"][1]["networks"][:2]}
    text = only(tmp_path, controls=controls, ranking=ranking, stability=fake.stability(searches=1))
    assert "no pair of trainings yet" in text
    assert evidence_sections(tmp_path, "RUN").compared == []
    assert "The same search, 1 time, from other seeds." in text
    assert "Whole space: 2 trained so far, too few to rank." in text
    nothing = only(
        tmp_path,
        controls={**controls, "comparisons": []},
        ranking={**ranking, "sets": []},
        where_se_pays={**fake.where_se_pays(), "blocks": [], "stand_alone": []},
        latency_check={"conditions": fake.latency_check()["conditions"], "sets": []},
        ledger={"parts": [], "energy_source": None},
    )
    assert nothing.count("To make this again:") == 6


def test_ranking_says_whether_the_supernet_beats_counting_macs(tmp_path: Path) -> None:
    found = fake.ranking()
    found["sets"][1]["gain_over_macs"] = fake.estimate(0.05, -0.02, 0.12, 200)
    text = only(tmp_path, ranking=found)
    assert "more than MACs alone by 0.21 (95 % interval +0.03 to +0.39)." in text
    assert "not significantly different from MACs alone (by +0.05, 95 % interval -0.02 to +0.12)." in text
    assert "the first 0.40 0.90 3.10" in text
    assert "agreement of two trainings 0.86 (0.78 to 0.91)" in text
    assert "ceiling" not in text
    assert "a score that knew what the networks are worth would lose some points too" in text


def test_searches_that_do_not_spread_beyond_the_noise_are_said_not_to_be_told_apart(tmp_path: Path) -> None:
    found = fake.stability()
    assert "from search to search this varies by 0.09 points (standard" in only(tmp_path, stability=found)
    found["accuracy"]["between_searches"] = 0.0
    text = only(tmp_path, stability=found)
    assert "from search to search what varies is not told apart from the noise of training; from training to" in text
    found["accuracy"] |= {"between_searches": 0.005, "p": 0.3}
    text = only(tmp_path, stability=found)
    assert "what varies is not told apart from the noise of training (p 0.300); from training to" in text
    found["accuracy"]["p"] = 0.01
    assert "varies by 0.50 points (standard deviation, the trainings' own noise taken out; p 0.010)" in only(
        tmp_path, stability=found
    )


def test_a_supernet_that_tells_no_network_apart_has_no_order(tmp_path: Path) -> None:
    found = fake.ranking()
    undefined = {**fake.estimate(0.0, None, None, 30), "value": None}
    one = found["sets"][0]
    one["correlations"]["supernet"] = {"kendall": undefined, "spearman": undefined}
    one |= {"partial_kendall": undefined, "gain_over_macs": undefined, "gain_of_recalibration": undefined}
    assert "Within the budgets: no order," in only(tmp_path, ranking=found)


def test_a_block_where_every_option_loses_is_best_without(tmp_path: Path) -> None:
    found = fake.where_se_pays()
    block = found["blocks"][0]
    for option in block["options"]:
        option |= {"gain": -0.01, "low": -0.02, "high": 0.0}
    block["chosen"] = "r4"
    text = only(tmp_path, where_se_pays=found)
    assert re.search(r"r4 -1\.00 \(-2\.00 to 0\.00\) \+552 \+8,704 \+21\.3 none \u2013", text)


def test_where_se_pays_counts_what_chance_would_give(tmp_path: Path) -> None:
    found = fake.where_se_pays()
    options = [option for block in found["blocks"] for option in block["options"]]
    gains, losses = sum(option["low"] > 0 for option in options), sum(option["high"] < 0 for option in options)
    text = only(tmp_path, where_se_pays=found)
    assert f"Of 33 pairs of a block and an option {gains} come out as a gain and {losses} as a loss" in text
    assert "about 2 would do so by chance" in text
    found["blocks"] = found["blocks"][:2]
    assert "about 0.3 would do so by chance" in only(tmp_path, where_se_pays=found)
    assert "reads high" in text
    assert "+0.20 -0.40 to +0.80 3" in text


def test_the_ledger_adds_up_what_is_known(tmp_path: Path) -> None:
    text = only(tmp_path, ledger=fake.ledger())
    assert "device time" not in text
    assert "total of what is known 5 h 41 min 12,300,000 87.6 Wh" in text
    assert "RAPL" in text
    assert "The device reports no energy." in only(tmp_path, ledger={**fake.ledger(), "energy_source": None})


@rendered()
def test_names_are_escaped(tmp_path: Path) -> None:
    found = fake.controls()
    found["networks"][1]["label"] = found["comparisons"][1]["label"] = "<b onclick=x>"
    write_json(tmp_path / "evidence" / "controls.json", found)
    assert "<b onclick" not in html_of(evidence_sections(tmp_path, "<i>"))


def test_a_damaged_file_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "evidence" / "ranking.json"
    write_atomic(path, "{")
    with pytest.raises(ConfigError, match=r"ranking\.json"):
        evidence_sections(tmp_path, "RUN")
    write_atomic(path, json.dumps({"seeds": [0]}))
    with pytest.raises(ConfigError) as caught:
        evidence_sections(tmp_path, "RUN")
    must = [f"{path}: {key}: must be given" for key in ("test_images", "sets")]
    assert str(caught.value).splitlines() == must


def test_what_is_known_of_latency_is_shown_of_each_device(tmp_path: Path) -> None:
    whole = fake.whole_evidence()
    check, where = whole["latency_check"], whole["where_se_pays"]
    of_one = {name: check.pop(name) for name in ("conditions", "sets")}
    check["devices"] = {"latency_ms.server": of_one, "latency_ms.phone": {**of_one, "sets": of_one["sets"][:1]}}
    for option in (option for block in where["blocks"] for option in block["options"]):
        option |= {"latency_ms.server": option.pop("latency_ms"), "latency_ms.phone": 0.25}
    for network in whole["controls"]["networks"]:
        latency = network["costs"].pop("latency_ms")
        network["costs"] |= {"latency_ms.server": latency, "latency_ms.phone": latency and 7.5}
    for found in (network for one in whole["ranking"]["sets"] for network in one["networks"]):
        found["latency_ms.phone"] = 3.0
    for one in whole["ranking"]["sets"]:
        one["correlations"]["latency_ms.phone"] = one["correlations"]["macs"]
    text = only(tmp_path, **{name: whole[name] for name in ("latency_check", "where_se_pays", "controls", "ranking")})
    for words in (
        "Conditions of the latency on server",
        "Conditions of the latency on phone",
        "µs on server µs on phone",
        "+250.0",
        "Latency on server (ms) Latency on phone (ms)",
        "latency on phone alone",
    ):
        assert words in text
    assert " Latency (ms)" not in text
    plot = evidence_sections(tmp_path, "RUN").figures["latency_check"]
    assert [axes.get_title(loc="left") for axes in plot.axes] == ["server", "server", "phone", "phone"]
