"""The parts that every page of this package is made of: its look, its sections and tables, and what it reads.

A page is one file of HTML that loads nothing, in the colours of `palette`, light or dark as its reader has it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from se_nas.cost.budget import format_cost
from se_nas.cost.counts import attention_counts, block_counts, network_counts
from se_nas.records.history import History
from se_nas.records.record import Record, read_plain
from se_nas.report.plots import figure
from se_nas.report.theme.palette import css_variables
from se_nas.report.theme.words import ABSENT, format_exact, format_percent
from se_nas.space.specs import NetworkSpec

_ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:[^\s/<>'\",]+/)+")

_CSS = """
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 var(--sans);font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:56px 28px 80px}
h1,h2,.figure{font-family:var(--serif);font-weight:500;letter-spacing:-.01em}
h1{font-size:40px;line-height:1.15;margin:2px 0 0;overflow-wrap:anywhere}
h2{font-size:24px;line-height:1.25;margin:0 0 4px}
h3{font-size:13px;font-weight:600;margin:26px 0 6px}
p{margin:0 0 14px;max-width:84ch}
.quiet{color:var(--muted)} .eyebrow{color:var(--muted);font-size:13px;letter-spacing:.04em}
section{border-top:1px solid var(--rule);padding:34px 0 30px}
.headline{display:grid;grid-template-columns:minmax(250px,5fr) 7fr;gap:56px;padding:38px 0 40px}
.figure{font-size:72px;line-height:1;white-space:nowrap} .figure small{font-size:34px}
.budget{display:grid;grid-template-columns:22px 1fr auto;column-gap:10px;align-items:baseline;margin-bottom:18px}
.budget b{font-weight:600} .mark{color:var(--green);font-weight:700} .broken .mark{color:var(--red)}
.bar{grid-column:2/4;height:7px;border-radius:4px;background:var(--rule);overflow:hidden;margin-top:5px}
.bar i{display:block;height:100%;border-radius:4px;background:var(--blue)} .broken .bar i{background:var(--red)}
.facts{display:flex;flex-wrap:wrap;gap:14px 38px;margin:0;padding:0 0 36px}
.facts div{min-width:0} .facts dt{color:var(--muted);font-size:13px} .facts dd{margin:0;font-weight:600}
.wide{overflow-x:auto;margin-top:18px} .wide svg,.wide img{display:block;max-width:100%;height:auto;margin:0}
svg.plot{width:100%;height:auto;display:block} .plot text{font-family:var(--sans)!important}
.side{display:grid;grid-template-columns:minmax(0,460px) 1fr;gap:40px;align-items:start}
table{border-collapse:collapse;font-size:14px;margin:6px 0 4px}
th{font-weight:500;color:var(--muted);text-align:left;font-size:13px} td,th{padding:5px 26px 5px 0;vertical-align:top}
tr{border-bottom:1px solid var(--rule)} .n{text-align:right;white-space:nowrap}
.pairs td:first-child{color:var(--muted);white-space:nowrap} .pairs td{overflow-wrap:anywhere}
.chosen{font-weight:600} .chosen td:last-child{color:var(--orange)}
.columns{display:grid;grid-template-columns:1fr 1fr;gap:8px 56px}
pre{background:var(--wash);border-radius:6px;padding:12px 16px;margin:6px 0 14px;font:13px/1.5 var(--mono);
white-space:pre-wrap;overflow-wrap:anywhere}
@media screen and (max-width:760px){.headline,.side,.columns{grid-template-columns:1fr;gap:28px}.figure{font-size:56px}}
@media print{@page{size:landscape;margin:13mm}:root{--paper:#fff}.paper{fill:#fff!important}
main{max-width:none;padding:0}body{font-size:13px}
section{padding:18px 0 12px}.headline{padding:26px 0}.wide{overflow:visible}
section,.wide,tr,.budget,pre{break-inside:avoid}h2,h3,section>p{break-after:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""

_FONTS = (
    "--sans:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;"
    "--serif:ui-serif,'Iowan Old Style','Palatino Linotype',Palatino,Georgia,'DejaVu Serif',serif;"
    "--mono:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;"
)


# ---- what a page reads


def read_if_there(kind: Any, path: Path, default: Any) -> Any:
    """The plain values of a JSON file that holds a `kind`, or `default` where there is no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    return read_plain(kind, path) if path.exists() else default


def read_history(path: Path) -> list[Mapping[str, Any]]:
    """The epochs of a training, numbered from 1 as people do; the loop that writes them counts from 0."""
    return [{**row, "epoch": row["epoch"] + 1} for row in read_if_there(History, path, ())]


# ---- the page


def text(value: object) -> str:
    """Escaped text without the folders of absolute paths, which belong to one machine."""
    return escape(_ABSOLUTE.sub("…/", str(value)))


def whole_page(name: str, body: Iterable[str]) -> str:
    """A page of the sections `body`; `name` is its title."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(name)} - se_nas</title><style>"
        f":root{{{_FONTS}{css_variables(dark=False)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{css_variables(dark=True)}}}}}{_CSS}"
        f"</style></head>\n<body><main>\n{''.join(body)}</main></body></html>\n"
    )


def section(title: str, lead: str, content: str) -> str:
    """A part of a page under its title; `lead` and `content` are HTML."""
    words = f'<p class="quiet">{lead}</p>' if lead else ""
    return f"<section><h2>{title}</h2>{words}{content}</section>\n"


def plot_section(figures: Mapping[str, str], name: str, title: str, lead: str) -> str:
    """A section of one plot, by its name; nothing where `figures` has none of it."""
    return section(title, lead, f'<div class="wide">{figures[name]}</div>') if name in figures else ""


class _Notes(Record):
    """What a page of the network shows of `excitation.json`; the rest is shown by a page of its own."""

    model_config = ConfigDict(extra="ignore")
    format: Literal["se_nas excitation"]
    version: Literal[1]
    notes: tuple[str, ...] = ()


def excitation_section(folder: Path) -> str:
    """What `se-nas excitation` found of the network in `folder`: its notes and plots; nothing where it has not run.

    Raises:
        ConfigError: its file is damaged.
    """
    home = folder / "excitation"
    found = read_if_there(_Notes, home / "excitation.json", {})
    notes = "".join(f"<li>{text(note)}</li>" for note in found.get("notes", ()))
    drawn = [home / "plots" / f"{name}.png" for name in ("accuracy_lost", "class_gates", "by_depth")]
    pictures = "".join(_picture(path) for path in drawn if path.exists())
    lead = 'More is in <a href="excitation/excitation.html">excitation.html</a>.'
    return section("What SE learned", lead, f"<ul>{notes}</ul>{pictures}") if found else ""


def _picture(path: Path) -> str:
    content = b64encode(path.read_bytes()).decode()
    return f'<p class="wide"><img alt="{path.stem}" src="data:image/png;base64,{content}"></p>'


def pairs(rows: Iterable[tuple[object, object]]) -> str:
    """A table of names and values, escaped; nothing where there are none."""
    cells = "".join(f"<tr><td>{text(key)}</td><td>{text(value)}</td></tr>" for key, value in rows)
    return f'<table class="pairs">{cells}</table>' if cells else ""


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Every value of nested mappings, under the names that lead to it."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", item


def plain(value: Any) -> str:
    """A value of JSON as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return format_exact(float(value)) if isinstance(value, float) else f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return ABSENT if value is None else str(value)


def cost(metric: str, value: float) -> str:
    """A cost with its unit."""
    return format_cost(metric, float(value))


def architecture_words(network: NetworkSpec) -> str:
    """What a drawing of a network does not show."""
    blocks = network.blocks
    with_se = [block for block in blocks if block.se]
    whole = network_counts(network)
    se = [attention_counts(block) for block in with_se]
    words = (
        f"{len(blocks)} blocks, {len(with_se)} of them with Squeeze-and-Excitation. SE takes "
        f"{format_percent(sum(c.macs for c in se) / whole.macs, 2)} of the MACs and "
        f"{format_percent(sum(c.params for c in se) / whole.params)} of the parameters."
    )
    heaviest = max(range(len(blocks)), key=lambda i: block_counts(blocks[i]).macs)
    share = format_percent(block_counts(blocks[heaviest]).macs / whole.macs)
    return f"{words} Block {heaviest + 1} is the dearest, with {share} of the MACs. Point at a block for its figures."


def cost_table(certificate: Mapping[str, Any]) -> str:
    """Each budget and cost of a certificate, and how it is known; the columns of budgets where it may have had any."""
    budgets = certificate.get("budgets")
    bound = {(entry["metric"], entry.get("how")) for entry in budgets or []}
    others = [e for e in certificate.get("costs", []) if (e["metric"], e.get("how")) not in bound]
    rows = "".join(_cost_row(entry, budgets is not None) for entry in [*(budgets or []), *others])
    limit, verdict = ("", "") if budgets is None else ('<th class="n">limit</th>', "<th>budget</th>")
    return (
        f'<table><tr><th>cost</th><th class="n">value</th>{limit}<th class="n">95 % interval</th>'
        f'<th class="n">n</th><th>how</th>{verdict}</tr>{rows}</table>'
    )


def _cost_row(entry: Mapping[str, Any], limited: bool) -> str:
    interval = entry.get("ci95")
    verdict = ABSENT if "limit" not in entry else ("✓ kept" if entry.get("holds") else "✗ broken")
    cells = (
        format_exact(float(entry["value"])),
        *([format_exact(float(entry["limit"])) if "limit" in entry else ABSENT] if limited else []),
        f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else ABSENT,
        entry.get("n", ABSENT),
    )
    return (
        f"<tr><td>{text(figure.METRIC_WORDS.get(entry['metric'], entry['metric']))} "
        f"<span class=quiet>({text(entry.get('unit', ''))})</span></td>"
        + "".join(f'<td class="n">{text(cell)}</td>' for cell in cells)
        + f"<td>{text(entry.get('how', ABSENT))}</td>{f'<td>{verdict}</td>' if limited else ''}</tr>"
    )


def cost_checks(certificate: Mapping[str, Any]) -> str:
    """The cross-check of a certificate's counts and the conditions of its latency, side by side."""
    parts = (("Cross-check", "cross_check"), ("Conditions of the latency", "latency_conditions"))
    tables = [
        (title, pairs((name.replace("_", " "), plain(value)) for name, value in flat(certificate.get(key) or {})))
        for title, key in parts
    ]
    shown = "".join(f"<div><h3>{title}</h3>{table}</div>" for title, table in tables if table)
    return f'<div class="columns">{shown}</div>'


def environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The version and commit of se_nas, the machine, and the packages, as rows of `pairs`."""
    rows: list[tuple[str, Any]] = [
        ("se_nas", environment.get("se_nas", ABSENT)),
        ("commit", _commit(environment.get("commit"))),
    ]
    skipped = {"se_nas", "commit", "packages"}
    rows += [(key, plain(value)) for key, value in environment.items() if key not in skipped and value is not None]
    return rows + [(package, version) for package, version in (environment.get("packages") or {}).items() if version]


def _commit(commit: Any) -> str:
    if not isinstance(commit, Mapping):
        return str(commit or ABSENT)
    return f"{str(commit.get('hash', ABSENT))[:12]}{', with uncommitted changes' if commit.get('dirty') else ''}"
