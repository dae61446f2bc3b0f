"""What a run's page says first of its evidence, whichever way it came out and however far it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from se_nas.records.files import write_json
from se_nas.records.models.evidence import ControlsPart
from se_nas.records.models.finalists import Finalist, FinalistsFile
from se_nas.records.record import parse_record
from se_nas.report.pages.evidence.first_screen import FirstScreen, first_screen
from tests.report import fake_evidence as fake
from tests.report.fake_evidence import Json


def shown(
    tmp_path: Path, found: Json | None = None, *, finalists: FinalistsFile | None = None, **plan: Any
) -> FirstScreen:
    """Of a run with these controls, and a plan of its own where one is given."""
    planned = plan or (found or {}).get("plan")
    if planned:
        write_json(tmp_path / "evidence/plan.json", planned)
    controls = None if found is None else parse_record(ControlsPart, found, "controls.json")
    return first_screen(tmp_path, controls, 1, fake.SPEC, finalists, 1000.0, retrained=True)


def said(first: FirstScreen, about: str = "") -> str:
    """The claim, or what is said about something."""
    (claim,) = [first.outcome] if not about else [fact.said for fact in first.facts if fact.about == about]
    return claim.strong + claim.rest


def commands(first: FirstScreen) -> list[str]:
    return [str(one.command).partition(" --part ")[2] for one in first.next]


@pytest.mark.parametrize(
    ("lead", "tone", "words"),
    [
        (
            0.02,
            "good",
            "The claim holds: this answer is better than the mean of 8 random networks at the same budgets: +",
        ),
        (
            0.0,
            "open",
            "The claim is not shown: no significant difference from the mean of 8 random networks at the same",
        ),
        (-0.02, "bad", "The opposite of the claim holds: this answer is worse than the mean of 8 random networks"),
    ],
)
def test_the_claim_is_told_whichever_way_it_came_out(tmp_path: Path, lead: float, tone: str, words: str) -> None:
    first = shown(tmp_path, fake.planned(lead))
    assert said(first).startswith(words)
    assert " points, 95 % interval " in said(first)
    assert said(first).endswith(", n = 5 seeds.")
    assert first.tone == tone
    assert said(first, "planned").startswith(
        "on 2026-11-28, before the first training: 5 seeds, with power 0.84 to find 1"
    )
    assert commands(first) == ["stability --set searches=[1,2]"]


def test_a_claim_against_the_best_says_so(tmp_path: Path) -> None:
    first = shown(tmp_path, fake.planned(0.04, claim="random_best"))
    assert said(first).startswith(
        "The claim holds: this answer is better than the best by training of 8 random networks"
    )


def test_a_claim_against_networks_of_its_size_says_so_and_nothing_warns_of_its_size(tmp_path: Path) -> None:
    found = fake.planned(0.04, claim="of_size_mean")
    found["networks"][0]["costs"]["params"] = 1.2e5
    random = {**found["networks"][-3], "name": "small", "kind": "random", "costs": {"macs": 5.9e6, "params": 6e4}}
    first = shown(tmp_path, {**found, "networks": [*found["networks"], random]})
    assert said(first).startswith(
        "The claim holds: this answer is better than the mean of 8 random networks of its size"
    )
    (size,) = (fact for fact in first.facts if fact.about == "size")
    assert not size.warns
    assert said(first, "size").endswith("; 8 random networks of its size stand beside them")
    alone = [network for network in found["networks"] if network["kind"] != "of_size"]
    small = {**found, "plan": None, "networks": [*alone, random], "comparisons": []}
    (size,) = (fact for fact in shown(tmp_path / "other", small).facts if fact.about == "size")
    assert size.warns
    assert size.said.rest.endswith("--set of_size=10 compares it with networks as large")


def test_a_claim_that_is_not_tested_to_its_end_does_not_hold_yet(tmp_path: Path) -> None:
    first = shown(tmp_path, fake.planned(0.04, done=3))
    assert said(first).startswith("The claim is not tested to its end: so far the difference from the mean of 8 random")
    assert first.tone == "open"
    assert [one.words for one in first.next] == ["do the 18 trainings that are left"]
    assert commands(first) == ["controls"]
    missing = fake.planned(0.04)  # one training of one random network
    del missing["networks"][-3]["accuracies"]["4"]
    assert "not tested to its end" in said(shown(tmp_path, missing))
    missing["networks"][-3]["failed"] = {"4": "it diverged"}
    assert "The claim holds" in said(shown(tmp_path, missing))


def test_a_claim_says_how_many_of_the_planned_networks_it_was_tested_against(tmp_path: Path) -> None:
    found = fake.planned(0.04)
    (claim,) = (one for one in found["comparisons"] if one.get("primary"))
    claim["networks"] = 6
    assert said(shown(tmp_path, found)).startswith(
        "The claim holds: this answer is better than the mean of 6 of the 8 random networks at the same budgets: "
    )
    claim["networks"] = 1  # whose comparison has no variance between networks
    assert said(shown(tmp_path, found)).startswith("The claim is not tested to its end: ")


def test_without_a_plan_no_comparison_stands_alone_and_a_new_run_can_plan_one(tmp_path: Path) -> None:
    first = shown(tmp_path, fake.controls())
    assert said(first).startswith("No claim was planned, so that none of 8 comparisons stands alone")
    assert "Against the mean of 8 random networks at the same budgets: " in said(first)
    assert re.search(r"Holm's p (< )?0\.\d+, n = 3 seeds\.$", said(first))
    assert [fact.about for fact in first.facts] == ["noise and spread", "size"]
    assert "--finished-only" in commands(first)[0]
    assert "not reckoned" in said(first, "noise and spread")


def test_an_answer_that_is_larger_than_the_random_networks_says_so(tmp_path: Path) -> None:
    found = fake.planned(0.04)
    answer, *others = found["networks"]
    for number, network in enumerate(one for one in others if one["kind"] == "random"):
        network["costs"] |= {"macs": 5.7e6 + 1e4 * number, "params": 6e4 + 1e3 * number}
    answer["costs"] |= {"macs": 5.7e6, "params": 6.6e4}
    assert said(shown(tmp_path, found), "size") == (
        "of the budgets the answer uses 95 % in MACs, the random networks 95 % to 96 %; 55 % in parameters, the random "
        "networks 50 % to 56 %"
    )
    answer["costs"]["params"] = 1.2e5
    (fact,) = [fact for fact in shown(tmp_path, found).facts if fact.about == "size"]
    assert fact.warns
    assert fact.said.strong.startswith("The answer is larger")


def test_evidence_that_was_only_begun_says_how_far_it_is(tmp_path: Path) -> None:
    first = shown(tmp_path, **fake.planned(0)["plan"])
    assert said(first) == (
        "The claim is not tested yet: that this answer is better than the mean of 8 random networks at the same "
        "budgets. 0 trainings are done."
    )
    assert commands(first) == ["controls"]
    write_json(tmp_path / "evidence/trainings/a.json", {})
    assert said(shown(tmp_path)).endswith(" 1 training is done.")
    (tmp_path / "evidence/plan.json").unlink()
    assert said(shown(tmp_path)) == "Nothing is compared yet: 1 training is done."


def test_a_run_without_evidence_says_how_to_compare_it_and_how_to_plan_a_claim(tmp_path: Path) -> None:
    first = shown(tmp_path)
    assert not first.known
    assert said(first).startswith("This answer was compared with nothing: ")
    assert commands(first)[0] == "controls"
    assert "primary={against: random_best" in commands(first)[1]
    without = first_screen(tmp_path, None, 1, fake.SPEC, None, 1.0, retrained=False)
    assert not without.next
    assert said(without).endswith(" needs a run whose run file has `retrain`.")


def test_where_the_ratio_may_be_below_its_bar_trainings_only_seem_to_tell_networks_apart(tmp_path: Path) -> None:
    found = fake.planned(0.02, spread=0.02)
    for low, words in ((3.5, "Trainings tell networks apart"), (1.9, "Trainings seem to tell networks apart")):
        found["regime"]["ratio"]["low"] = low
        (fact,) = [fact for fact in shown(tmp_path, found).facts if fact.about == "noise and spread"]
        assert fact.said.strong == words


@pytest.mark.parametrize(("spread", "warns"), [(0.02, False), (0.001, True)])
def test_trainings_that_tell_networks_apart_hardly_are_a_warning(tmp_path: Path, spread: float, warns: bool) -> None:
    found = fake.planned(0.02, spread=spread)
    (fact,) = [fact for fact in shown(tmp_path, found).facts if fact.about == "noise and spread"]
    assert fact.warns is warns
    assert ("hardly tell networks apart" in fact.said.strong) is warns
    assert f"{found['regime']['ratio']['value']:.1f} times as much" in fact.said.rest
    assert ("should be 3 times" in fact.said.rest) is warns


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (0.61, 0.70),
            "the best of 3 has 1.20 points more than the search's own answer on the validation images after 3 epochs",
        ),
        (
            (0.58,),
            "the best of 3 has 2.00 points more than the search's own answer on the validation images after 1 epoch,",
        ),
        ((0.61, 0.75), "the best of 3 is the search's own answer, so that they changed nothing"),
    ],
)
def test_finalists_say_what_they_gained_and_cost(tmp_path: Path, answer: tuple[float, ...], words: str) -> None:
    listed = [
        Finalist(picks={"a": 1}, origin="neighbour", judged=0.5, accuracies=(0.6, 0.712), seconds=100),
        Finalist(picks={"a": 2}, origin="answer", judged=0.5, accuracies=answer, seconds=100),
        Finalist(picks={"a": 3}, origin="random", judged=0.5, accuracies=(0.5,), seconds=50),
    ]
    order = sorted(listed, key=lambda one: (len(one.accuracies), one.accuracies[-1]), reverse=True)
    file = FinalistsFile(rounds=((3, 1), (2, 3)), finalists=tuple(order))
    told = said(shown(tmp_path, fake.planned(0), finalists=file), "finalists")
    assert told.startswith(words)
    assert told.endswith("their trainings took 4 min 10 s, 25 % of the search")


def test_every_block_has_a_chip_and_the_words_count_them(tmp_path: Path) -> None:
    first = shown(tmp_path)
    options = [chip.option for stage in first.placed for chip in stage]
    assert options == [block.se.label if block.se else "" for block in fake.SPEC.blocks]
    with_se = sum(map(bool, options))
    assert first.placed_words.startswith(f"in {with_se or 'none'} of {len(options)} blocks")
