from __future__ import annotations

from matplotlib.axes import Axes

from se_nas.cost.latency.timing import Measurement, latency_key
from se_nas.evidence.sweep import MeasuredSweep, sweep_space
from se_nas.report.plots.sweep import sweep_plot
from se_nas.space.yaml.file import parse_space
from tests.helpers.tiny_runs import SPACE

SWEEP = sweep_space(parse_space(SPACE, "tiny"), "se", ["none", "2"])
MEASURED = MeasuredSweep(latency_key(), (Measurement(1.0, 1.0, (0.9, 1.3), 6), Measurement(2.25, 2.2, (2.0, 2.5), 6)))


def heights(axes: Axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_each_cost_has_a_panel_with_a_bar_for_each_option_from_0() -> None:
    figure = sweep_plot(SWEEP, MEASURED)
    params, macs, latency = figure.axes
    assert heights(params) == [point.counts.params for point in SWEEP.points]
    assert heights(macs) == [point.counts.macs for point in SWEEP.points]
    assert heights(latency) == [1.0, 2.25]
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] > max(heights(axes))
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["none", "2"]
    assert [label.get_text() for label in latency.texts] == ["1", "2.25"]
    assert figure.get_supxlabel() == MEASURED.conditions


def test_latencies_have_their_intervals() -> None:
    latency = sweep_plot(SWEEP, MEASURED).axes[2]
    (lines,) = [container.lines[2][0] for container in latency.containers if hasattr(container, "lines")]
    ends = [segment[:, 1].tolist() for segment in lines.get_segments()]
    assert ends == [[0.9, 1.3], [2.0, 2.5]]


def test_without_a_clock_there_is_no_panel_of_latency() -> None:
    titles = [axes.get_title(loc="left") for axes in sweep_plot(SWEEP, None).axes]
    assert titles == ["Parameters", "MACs"]
