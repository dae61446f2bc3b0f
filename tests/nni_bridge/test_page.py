"""NNI's page as its reader sees it: real experiments in a real headless Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from se_nas.nni_bridge.experiment import status
from se_nas.nni_bridge.page_values import PROPOSAL
from se_nas.runs.run_folder import RunFolder
from tests.nni_bridge.browser import Tab, browser, find_chromium
from tests.nni_bridge.conftest import Told

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.chromium,
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome to open NNI's page in"),
]

#: Where each colour that a chart has much of reaches furthest to the right: [count, x, y] of pixels.
COLOURS = """(() => {
  const canvas = document.querySelector('canvas'), found = {};
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < pixels.length; i += 4) {
    const colour = pixels.slice(i, i + 3), x = (i / 4) % canvas.width, y = Math.floor(i / 4 / canvas.width);
    if (pixels[i + 3] < 100 || Math.max(...colour) - Math.min(...colour) < 40) continue;  // text and grid are grey
    const spot = found[colour] ??= [0, 0, 0];
    spot[0] += 1;
    if (x >= spot[1]) [spot[1], spot[2]] = [x, y];
  }
  return Object.values(found).filter(spot => spot[0] > 15);
})()"""
PLACE = "(() => { const r = document.querySelector('canvas').getBoundingClientRect(); return [r.x, r.y]; })()"


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    assert CHROMIUM is not None
    with browser(CHROMIUM, tmp_path / "profile") as tab:
        yield tab


def tooltip(tab: Tab) -> dict[str, Any]:
    """What a chart says of the rightmost point of a colour when the mouse is there."""

    def move() -> str:
        left, top = tab.run(PLACE)
        for _, x, y in tab.run(COLOURS):
            for step in range(1, 6):
                tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + x - step, y=top + y)
                if text := tab.run("document.querySelector('canvas').parentElement.parentElement.innerText"):
                    return str(text)
        return ""

    tab.until("!!document.querySelector('canvas')")
    for _ in range(50):
        tab.run("new Promise(done => setTimeout(done, 200))")
        if text := move():
            found = dict(re.findall(r"^(Trial ID|Intermediate|default): (.*)$", text, re.M))
            return {**found, "parameters": json.loads(text[text.index("{") :])}
    raise AssertionError(f"the chart says nothing: {tab.text()[:1000]}")


def test_the_overview_has_the_run_and_its_best_accuracy(tab: Tab, black_box: Told) -> None:
    tab.open(f"{black_box.url}/oview")
    tab.until("document.body.innerText.includes('Best metric') && document.body.innerText.includes('DONE')")
    best = max(job.final["default"] for job in black_box.jobs)
    tab.until(f"document.body.innerText.includes('{best:.6f}')")
    text = tab.text()
    for words in ("tiny", "se_nas.nni_bridge.tuner.SeNasTuner", "se_nas.nni_bridge.trial", "local", "4/4"):
        assert words in text
    assert {job.id for job in black_box.jobs} <= set(text.split())


#: What a page asks of NNI's, and the status that it sees.
ASK = "fetch({url!r}, {options}).then(answer => answer.status, () => 0)"


def test_the_page_itself_changes_the_experiment_and_no_other_page_does(tab: Tab, black_box: Told) -> None:
    api = f"{black_box.url}/api/v1/nni/experiment"
    tab.open(f"{black_box.url}/oview")
    tab.until("document.body.innerText.includes('DONE')")
    more = "?update_type=MAX_EXEC_DURATION"
    profile = f"await (await fetch({api!r})).json()"
    headers = "headers: {'Content-Type': 'application/json'}"
    change = f"(async () => {{ const body = JSON.stringify({profile}); return "
    change += ASK.format(url=api + more, options=f"{{method: 'PUT', {headers}, body}}") + "; })()"
    assert tab.run(change) == 200
    tab.open("data:text/html,<p>somebody else's page")
    tab.until("document.body.innerText.includes('somebody')")
    for kind in ("text/plain", "application/json"):
        options = f"{{method: 'POST', mode: 'no-cors', headers: {{'Content-Type': '{kind}'}}, body: '{{}}'}}"
        tab.run(ASK.format(url=api, options=options))
    assert status.status(black_box.folder).state == "DONE"


#: Of every icon that can be seen: its name, and what draws it.
ICONS = """[...document.querySelectorAll('i[data-icon-name]')].filter(e => e.getClientRects().length).map(e => {
  const drawn = getComputedStyle(e, '::before');
  return [e.dataset.iconName, drawn.content, drawn.fontFamily, getComputedStyle(e).fontSize];
})"""
LOADED = "[...document.fonts].filter(f => f.family.includes('codicon of NNI') && f.status === 'loaded').length"


def test_icons_are_drawn_without_the_internet_and_nothing_is_asked_for_there(tab: Tab, black_box: Told) -> None:
    seen = set()
    for page, words in (("oview", "Best metric"), ("detail", "Trial jobs")):
        tab.open(f"{black_box.url}/{page}")
        tab.until(f"document.body.innerText.includes('{words}') && {ICONS}.length > 3")
        tab.until(LOADED)
        for name, content, family, size in tab.run(ICONS):
            seen.add(name)
            assert "codicon of NNI" in family, name
            assert len(content.strip('"')) == 1, name
            assert size == "0px", name  # the letter of the font that is not there
        asked = tab.run("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [url for url in asked if not url.startswith((f"{black_box.url}/", "data:"))] == []
    assert len(seen) > 5


def test_the_hyper_parameter_chart_has_our_choices_and_metrics_as_axes(tab: Tab, black_box: Told) -> None:
    tab.open(f"{black_box.url}/detail")
    tab.click("button", "Hyper-parameter")
    tab.until("document.querySelectorAll('svg text').length > 20")
    texts = tab.run("[...document.querySelectorAll('svg text')].map(e => e.textContent)")
    choices = RunFolder(black_box.folder).space.choices
    assert {"stage1.depth", "stage2.block1.se"} <= {choice.name for choice in choices}
    assert {choice.name for choice in choices} <= set(texts)
    assert {"default", "macs", "params", "excess.macs", "excess.params", PROPOSAL} <= set(texts)
    # the options are the words of the space, in its order, between the name of the axis before and their own
    names = [choice.name for choice in choices]
    for before, choice in zip([None, *names], choices, strict=False):
        start = texts.index(before) + 1 if before else 0
        assert texts[start : texts.index(choice.name)] == [str(option) for option in choice.options]


def test_the_chart_of_the_default_metric_shows_each_trials_accuracy_with_its_parameters(
    tab: Tab, black_box: Told
) -> None:
    tab.open(f"{black_box.url}/detail")
    said = tooltip(tab)
    (job,) = [job for job in black_box.jobs if job.id == said["Trial ID"]]
    assert float(said["default"]) == pytest.approx(job.final["default"])
    assert said["parameters"] == job.parameters


def test_the_intermediate_results_of_a_differentiable_search_are_drawn(tab: Tab, swept: Told) -> None:
    tab.open(f"{swept.url}/detail")
    tab.click("button", "Intermediate result")
    tab.until("document.body.innerText.includes('# Intermediate result')")
    said = tooltip(tab)
    (job,) = [job for job in swept.jobs if job.id == said["Trial ID"]]
    # which epoch the mouse met is not said
    curve = [m.value["default"] for m in swept.metrics if m.trial == job.id and m.kind == "PERIODICAL"]
    assert any(float(said["Intermediate"]) == pytest.approx(accuracy) for accuracy in curve)
    assert said["parameters"] == job.parameters


def test_every_number_of_an_epoch_can_be_drawn(tab: Tab, swept: Told) -> None:
    (first, *_) = swept.jobs
    tab.open(f"{swept.url}/detail")
    tab.until(f"document.body.innerText.includes('{first.id}')")
    tab.run("document.querySelector('button[title=Intermediate]').click()")
    dropdown = "document.querySelector('.ms-Dropdown-container.select .ms-Dropdown-title')"
    tab.until(f"!!{dropdown}")
    tab.run(f"{dropdown}.click()")
    options = "[...document.querySelectorAll('[role=option]')].map(e => e.innerText.trim())"
    tab.until(f"{options}.length > 1")
    assert {"default", "expected_macs", "expected_params", "entropy", "temperature"} <= set(tab.run(options))
