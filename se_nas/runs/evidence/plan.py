"""The plan of a run's evidence: what its claim is, and from how many trainings, said before the first of them."""

from __future__ import annotations

from se_nas.errors import ConfigError
from se_nas.evidence.pilot.power import claim_fault, power_of, seeds_for
from se_nas.hardware.environment import describe_environment
from se_nas.records.models.plan import EvidencePlan
from se_nas.records.record import read_record, write_record
from se_nas.runs.evidence_config import FOLDER
from se_nas.runs.run_file import EvidenceConfig
from se_nas.runs.run_folder import RunFolder


def plan_evidence(
    run: RunFolder, config: EvidenceConfig, networks: int, trained: int, elsewhere: int
) -> EvidencePlan | None:
    """The plan that the evidence was begun with, or one that is written now; None where nothing is the claim.

    Args:
        networks: random ones of the claim.
        trained: trainings that the evidence has already, beside the run's own, or that other runs have of its answer.
        elsewhere: trainings of other runs that may be taken over.

    Raises:
        ConfigError: the plan is another than that which was written, or comes after results.
    """
    path = run / FOLDER / "plan.json"
    known = read_record(EvidencePlan, path) if path.exists() else None
    if known is not None:
        _check_kept(known, config, networks, str(run.path))
        return known
    if config.primary is None:
        return None
    if trained:
        must = "must be planned before the first training, but the evidence has results"
        raise ConfigError(str(run.path), [f"primary: {must} of {trained} already; plan it in a copy without evidence/"])
    if (fault := claim_fault(config.primary, networks, config.seeds)) is not None:
        raise ConfigError(str(run.path), [fault])
    power = power_of(config.primary, networks)
    needed = seeds_for(config.primary.power, power)
    seeds = config.seeds or tuple(range(needed or 0))
    environment = describe_environment()
    plan = EvidencePlan(
        written=environment.time,
        commit=environment.commit,
        primary=config.primary,
        networks=networks,
        seeds=seeds,
        power=power(len(seeds)) if len(seeds) > 1 else 0.0,
        needed=needed,
        elsewhere=elsewhere,
    )
    write_record(path, plan)
    return plan


def _check_kept(plan: EvidencePlan, config: EvidenceConfig, networks: int, source: str) -> None:
    """What was planned stays: a claim that is chosen, or ended, by its results is none."""
    of = plan.primary.counted_by
    asked = {"primary": config.primary, "seeds": config.seeds or plan.seeds, of: networks}
    kept = {"primary": plan.primary, "seeds": plan.seeds, of: plan.networks}
    other = [name for name in kept if asked[name] != kept[name]]
    if other:
        must = f"must be as planned on {plan.written}, {plan.before}; see {FOLDER}/plan.json"
        raise ConfigError(source, [f"{', '.join(other)}: {must}"])
