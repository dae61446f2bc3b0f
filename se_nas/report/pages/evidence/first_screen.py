"""What the first screen of a run's page says of its evidence: the claim and how it came out, and what it rests on.

Nothing is reckoned here: the evidence has the numbers, and what it has not is said to be missing, with the command that
makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from se_nas.errors import counted, format_seconds
from se_nas.records.models.evidence import LEAST_RATIO, ComparisonEntry, ControlsPart, EstimateEntry, Regime
from se_nas.records.models.finalists import FinalistsFile
from se_nas.records.models.plan import EvidencePlan, Primary
from se_nas.records.record import read_record
from se_nas.report.pages.evidence.words import RIVALS, Claim, ends_words, p_words, verdict
from se_nas.report.pages.what_next import Command, command_line
from se_nas.report.plots.evidence import is_significant, points
from se_nas.report.plots.figure import sentence_word
from se_nas.report.theme.palette import attention_tone
from se_nas.report.theme.words import format_percent
from se_nas.space.specs import BlockSpec, NetworkSpec
from se_nas.space.templates import NO_SE

#: A cost so much above the median of the random networks is worth a warning, as a share of that.
MUCH_LARGER = 0.2
_EXAMPLE = "primary: {against: random_best, difference: 0.01, noise: 0.005}"


@dataclass(frozen=True)
class Fact:
    """A line below the claim: what it is about, and what it says; `warns` where a reader should mind it."""

    about: str
    said: Claim
    warns: bool = False


@dataclass(frozen=True)
class BlockSE:
    """A block's SE as a chip: its option, a colour by name, and what it says where it is pointed at."""

    option: str
    tone: str
    words: str


@dataclass(frozen=True)
class FirstScreen:
    """The evidence in short.

    Attributes:
        known: whether there is any evidence.
        outcome: the claim, and how it came out; `tone` is "good", "bad" or, where neither is shown, "open".
        placed: where SE is, stage by stage; `placed_words` sums it up.
        next: what to run, with the reason.
    """

    known: bool
    outcome: Claim
    tone: str
    facts: Sequence[Fact]
    placed: Sequence[Sequence[BlockSE]]
    placed_words: str
    next: Sequence[Command]


def first_screen(
    folder: Path,
    controls: ControlsPart | None,
    searches: int,
    network: NetworkSpec,
    finalists: FinalistsFile | None,
    search_seconds: float,
    retrained: bool,
) -> FirstScreen:
    """What the evidence in a run's folder says.

    Args:
        folder: the run's.
        controls: `controls.json`, where it is there.
        searches: from how many seeds the search was run.
        network: the answer.
        search_seconds: of the search, its finalists in it.
        retrained: whether the run has a retraining, without which it has no evidence.

    Raises:
        ConfigError: the plan is damaged.
    """
    path = folder / "evidence" / "plan.json"
    plan = read_record(EvidencePlan, path) if path.exists() else None
    trained = len(list((folder / "evidence" / "trainings").glob("*.json")))
    known = controls is not None or plan is not None or trained > 0
    outcome, tone = _outcome(controls, plan, trained, retrained)
    facts = [] if plan is None else [Fact("planned", _plan_words(plan))]
    if controls is not None:
        facts += [_regime_fact(controls.regime), *_size_facts(controls)]
    if finalists is not None:
        facts.append(Fact("finalists", _finalists_words(finalists, search_seconds)))
    return FirstScreen(
        known=known,
        outcome=outcome,
        tone=tone,
        facts=facts,
        placed=[[_chip(block) for block in stage] for stage in network.stages],
        placed_words=_placed_words(network.blocks),
        next=_next(folder, controls, plan, known, searches) if retrained else (),
    )


# ---- the claim


def _outcome(
    controls: ControlsPart | None, plan: EvidencePlan | None, trained: int, retrained: bool
) -> tuple[Claim, str]:
    if controls is None:
        begun = f" {counted(trained, 'training')} {'is' if trained == 1 else 'are'} done."
        if plan is not None:
            claim = f": that this answer is better than {_rival(plan.primary, plan.networks)}.{begun}"
            return Claim("The claim is not tested yet", claim), "open"
        if trained:
            return Claim("Nothing is compared yet", f":{begun}"), "open"
        rest = ": whether a random network at the same budgets would do as well is not known."
        if not retrained:
            rest += (
                " A comparison trains networks as the answer is trained, and needs a run whose run file has `retrain`."
            )
        return Claim("This answer was compared with nothing", rest), "open"
    if plan is None:
        return _unplanned(controls), "open"
    one = next((one for one in controls.comparisons if one.primary), None)
    if one is None or one.value is None:
        against = _rival(plan.primary, plan.networks)
        return Claim("The claim is not tested yet", f": that this answer is better than {against}."), "open"
    against, numbers = _rival(plan.primary, plan.networks, one.networks), _numbers(one)
    if one.n < len(plan.seeds) or _untrained(controls, one) or one.networks == 1 < plan.networks:
        rest = f": so far the difference from {against} is {numbers}, and the plan is not carried out."
        return Claim("The claim is not tested to its end", rest), "open"
    if not is_significant(one):
        return Claim("The claim is not shown", f": no significant difference from {against}: {numbers}."), "open"
    if one.value > 0:
        return Claim("The claim holds", f": this answer is better than {against}: {numbers}."), "good"
    return Claim("The opposite of the claim holds", f": this answer is worse than {against}: {numbers}."), "bad"


def _rival(primary: Primary, planned: int, compared: int | None = None) -> str:
    fewer = f"{compared} of the " if compared is not None and compared < planned else ""
    return RIVALS[primary.against].format(f"{fewer}{planned}")


def _numbers(one: ComparisonEntry) -> str:
    """A difference with all that belongs to it."""
    assert one.value is not None
    if one.low is None or one.high is None:
        return f"{points(one.value)} points, n = {counted(one.n, 'seed')}, too few for an interval"
    p = "" if one.p is None else f", p {p_words(one.p)}" if one.p < 0.001 else f", p = {p_words(one.p)}"
    interval = ends_words(one.low, one.high, points)
    return f"{points(one.value)} points, 95 % interval {interval}{p}, n = {counted(one.n, 'seed')}"


def _untrained(controls: ControlsPart, one: ComparisonEntry) -> bool:
    """Whether a network of a comparison waits for a training, rather than had one that diverged."""
    names = {one.ours, *one.theirs, *(one.left_out or ())}
    return any(controls.waiting_for(network) > 0 for network in controls.networks if network.name in names)


def _unplanned(controls: ControlsPart) -> Claim:
    kinds = {network.name: network.kind for network in controls.networks}
    random = [one for one in controls.comparisons if kinds[one.theirs[0]] == "random" and not one.selected]
    many = counted(len(controls.comparisons), "comparison")
    outcome = ""
    if random and (one := random[0]).value is not None:
        p = "" if one.p_holm is None else f"Holm's p {p_words(one.p_holm)}, "
        seeds = counted(one.n, "seed")
        outcome = f" Against {one.label} at the same budgets: {verdict(one)}, {p}n = {seeds}."
    return Claim(
        "No claim was planned", f", so that none of {many} stands alone (Holm's correction is of all).{outcome}"
    )


def _plan_words(plan: EvidencePlan) -> Claim:
    primary = plan.primary
    spread = "" if primary.spread is None else f" and a spread of {100 * primary.spread:g}"
    points_asked = f"{100 * primary.difference:g} point{'' if primary.difference == 0.01 else 's'}"
    asked = "" if plan.power >= primary.power else f", where {primary.power:.2f} were asked for"
    words = (
        f"on {plan.written[:10]}, {plan.before}: {counted(len(plan.seeds), 'seed')}, with power "
        f"{plan.power:.2f} to find {points_asked} at a noise of {100 * primary.noise:g}{spread}{asked}"
    )
    return Claim("", words)


# ---- what it rests on


def _regime_fact(regime: Regime | None) -> Fact:
    about = "noise and spread"
    if regime is None:
        return Fact(about, Claim("", "not reckoned when this evidence was gathered"))
    if regime.networks < 2:
        return Fact(about, Claim("", "not known, as fewer than two random networks are trained"))
    if regime.holds is None:
        return Fact(about, Claim("", "not known, as no random network is trained with two seeds"))
    noise, spread = _deviation(regime.noise), _deviation(regime.spread)
    ratio = regime.ratio
    ends = ends_words(ratio.low, ratio.high, "{:.1f}".format)
    words = (
        f": a training has a noise of {noise} points, {regime.networks} random networks a spread of {spread}, "
        f"{ratio.value:.1f} times as much ({ends})"
    )
    if regime.holds:
        sure = ratio.low is not None and ratio.low >= LEAST_RATIO
        return Fact(about, Claim(f"Trainings {'' if sure else 'seem to '}tell networks apart", words))
    words += f", where it should be {LEAST_RATIO:g} times: longer trainings tell more"
    return Fact(about, Claim("Trainings hardly tell networks apart", words), warns=True)


def _size_facts(controls: ControlsPart) -> Iterator[Fact]:
    """How much of each budget the answer uses, and the random networks, which need fill one budget alone."""
    answer = next((network for network in controls.networks if network.kind == "answer"), None)
    random = [network for network in controls.networks if network.kind == "random"]
    if answer is None:
        return
    said, larger = [], False
    for metric, limit in (controls.budgets or {}).items():
        ours, theirs = answer.costs.of(metric), [cost for one in random if (cost := one.costs.of(metric)) is not None]
        if ours is None or not theirs:
            continue
        larger |= ours > (1 + MUCH_LARGER) * float(np.median(theirs))
        ends = f"{format_percent(min(theirs) / limit, 0)} to {format_percent(max(theirs) / limit, 0)}"
        said.append(f"{format_percent(ours / limit, 0)} in {sentence_word(metric)}, the random networks {ends}")
    uses = f"uses {'; '.join(said)}"
    if said and larger:
        alike = sum(network.kind == "of_size" for network in controls.networks)
        rest = (
            f"; {counted(alike, 'random network')} of its size stand beside them"
            if alike
            else ", so that some of what it gains may be its size: --set of_size=10 compares it with networks as large"
        )
        claim = Claim("The answer is larger than the random networks", f": of the budgets it {uses}{rest}")
        yield Fact("size", claim, warns=not alike)
    elif said:
        yield Fact("size", Claim("", f"of the budgets the answer {uses}"))


def _deviation(found: EstimateEntry) -> str:
    assert found.value is not None
    ends = ends_words(found.low, found.high, lambda share: f"{100 * share:.2f}")
    return f"{100 * found.value:.2f} ({ends})"


def _finalists_words(file: FinalistsFile, search_seconds: float) -> Claim:
    share = f", {format_percent(file.seconds / search_seconds, 0)} of the search" if search_seconds else ""
    cost = f"their trainings took {format_seconds(file.seconds)}{share}"
    among = f"the best of {len(file.finalists)}"
    if file.gain is None:
        return Claim("", f"{among}; {cost}")
    if file.finalists[0].origin == "answer":
        return Claim("", f"{among} is the search's own answer, so that they changed nothing; {cost}")
    gain, epochs = file.gain
    gained = f"{100 * gain:.2f} points more than the search's own answer on the validation images"
    return Claim(
        "", f"{among} has {gained} after {counted(epochs, 'epoch')}, which reads high as they picked it; {cost}"
    )


def _chip(block: BlockSpec) -> BlockSE:
    option = block.se.label if block.se else NO_SE
    side = f"{block.out_channels} channels, {block.out_resolution} pixels"
    return BlockSE("" if option == NO_SE else option, attention_tone(option), f"SE {option}; {side}")


def _placed_words(blocks: Sequence[BlockSpec]) -> str:
    options = Counter(block.se.label for block in blocks if block.se)
    of = f"in {sum(options.values()) or 'none'} of {len(blocks)} blocks"
    return ": ".join(filter(None, (of, ", ".join(f"{count} {option}" for option, count in options.most_common()))))


# ---- what next


def _next(
    folder: Path, controls: ControlsPart | None, plan: EvidencePlan | None, known: bool, searches: int
) -> list[Command]:
    part = command_line(folder, "evidence", more="--part controls")
    if not known:
        claimed = command_line(folder, "evidence", more=f"--part controls --set '{_EXAMPLE.replace(': ', '=', 1)}'")
        return [
            Command("compare it with random networks, and with SE nowhere and everywhere", part),
            Command("the same with a claim, planned before it for a noise that a pilot finds", claimed),
        ]
    if controls is None:
        return [Command("go on", part)]
    found = []
    if controls.waiting:
        found.append(Command(f"do the {counted(controls.waiting, 'training')} that are left", part))
    elif controls.regime is None:
        reckoned = command_line(folder, "evidence", more="--part controls --finished-only")
        found.append(Command("reckon noise and spread of the trainings that there are", reckoned))
    if plan is None:
        again = command_line(folder, "search", "/config.yaml", f"--out NEW --set 'evidence={{{_EXAMPLE}}}'")
        found.append(Command("plan a claim: in a new run, as results are known here", again))
    elif searches < 2 and not controls.waiting:
        more = command_line(folder, "evidence", more="--part stability --set searches=[1,2]")
        found.append(Command("see whether other seeds of the search answer alike", more))
    return found
