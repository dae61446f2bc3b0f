from __future__ import annotations

from pathlib import Path

import pytest

from se_nas.cost.counts import network_counts
from se_nas.cost.metrics import METRICS, Metric
from se_nas.errors import ConfigError
from se_nas.report.space_table import space_table
from se_nas.space.yaml.file import load_space

ROOT = Path(__file__).resolve().parents[2]

SPACE = """
name: tiny
resolution: 8
stem: {width: 8}
stages:
  - width: 8
    depth: [1, 2]
    kernel: [3, 5]
    se: {options: [eca, 4, "none"], divisor: 1}
  - width: 16
    stride: 2
    blocks:
      - {kind: identity}
      - {kind: bottleneck, group_width: 2, preactivation: true, expansion: 0.5}
"""


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_row_has_the_counts_of_every_network_of_its_space(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    space = load_space(tmp_path / "tiny.yaml")
    counts = [network_counts(space.resolve(architecture)) for architecture in space.enumerate()]
    header, _, row = cells(space_table(tmp_path))
    found = dict(zip(header, row, strict=True))
    assert found == {
        "blocks": "MBConv, pre-activation grouped bottleneck",
        "space": "`tiny`",
        "images": "8x8",
        "networks": str(len(counts)),
        "Parameters": f"{min(c.params for c in counts):,} to {max(c.params for c in counts):,}",
        "MACs": f"{min(c.macs for c in counts):,} to {max(c.macs for c in counts):,}",
        "attention": "none r4 eca",
    }


def test_a_metric_of_a_plugin_has_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "wide", Metric(title="Width", unit="channels", block=lambda block: block.out_channels))
    (tmp_path / "tiny.yaml").write_text(SPACE)
    header, _, row = cells(space_table(tmp_path))
    assert dict(zip(header, row, strict=True))["Width"] == "24 to 32"


def test_one_network_has_one_count_and_spaces_come_before_what_folders_in_theirs_hold(tmp_path: Path) -> None:
    one = SPACE.replace("[1, 2]", "1").replace("[3, 5]", "3").replace('[eca, 4, "none"]', "[4]")
    one = one.replace("      - {kind: identity}\n", "")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "one.yaml").write_text(one)
    (tmp_path / "later.yaml").write_text(SPACE)
    (tmp_path / "other.yaml").write_text(one.replace("    kernel: 3\n    se:", "    blocks: [{kind: conv}]\n    #"))
    _, _, *rows = cells(space_table(tmp_path))
    assert [row[1] for row in rows] == ["`later`", "`inner/one`", "`other`"]
    space = load_space(tmp_path / "inner" / "one.yaml")
    counts = network_counts(space.resolve(space.architecture({})))
    assert rows[1][3:6] == ["1", f"{counts.macs:,}", f"{counts.params:,}"]


def test_a_space_of_identities_alone_has_a_row(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(
        "{name: plain, resolution: 8, stem: {width: 8}, stages: [{width: 16, blocks: [{kind: identity}]}]}"
    )
    *_, row = cells(space_table(tmp_path))
    assert row[:4] == ["identity", "`plain`", "8x8", "1"]


def test_a_folder_without_spaces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").touch()
    (tmp_path / "empty").mkdir()
    for name, got in {"nowhere": "does not exist", "space.yaml": "is a file", "empty": "has none"}.items():
        with pytest.raises(ConfigError, match=rf"folder with search spaces \(\*\.yaml\), but {got}$"):
            space_table(tmp_path / name)


def test_the_docs_have_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "reference" / "spaces.md").read_text()
    begin, end = "<!-- se-nas space table -->\n", "\n<!-- end of the table -->"
    assert page.split(begin)[1].split(end)[0] == space_table(ROOT / "search_spaces")
