"""A latency budget for this machine: a table of what every block costs, an exact answer, and its certificate.

Run it with `python examples/latency_budget.py`. It takes about a minute the first time; then the table is cached.
"""

from __future__ import annotations

import sys

import se_nas


def main(space_name: str = "mbconv_digits") -> None:
    space = se_nas.load_space(space_name)

    # Every distinct block is timed for one image on one CPU thread, and the sum is calibrated on whole networks.
    latency = se_nas.latency_table(space, device="cpu", threads=1, progress=True)
    tables = {**se_nas.count_tables(space), "latency_ms": latency.table}
    print(f"networks that were not used for the fit are predicted to {latency.fit.held_out.mape:.1%} on average")

    # Scores say how good each option is. A search learns them; here the later option of each choice is the better one.
    scores = {choice.name: list(range(len(choice.options))) for choice in space.choices}
    best = se_nas.decode(space, tables, [], scores)
    print(f"without a budget: {best.costs['latency_ms']:.3f} ms (predicted), {best.costs['macs']:,.0f} MACs")

    # Two budgets at once, the latency four fifths of that; the answer is the exact optimum of the scores under both.
    limit = 0.8 * best.costs["latency_ms"]
    budgets = se_nas.parse_budgets({"latency_ms": limit, "macs": best.costs["macs"]}, "latency_budget.py")
    answer = se_nas.decode(space, tables, budgets, scores)
    print(f"within {limit:.3f} ms: {answer.costs['latency_ms']:.3f} ms (predicted), {answer.costs['macs']:,.0f} MACs")

    # A prediction is no proof. The certificate times the network itself, and refuses one that misses a budget.
    network = space.resolve(answer.architecture)
    try:
        certificate = se_nas.certify(network, budgets, device="cpu", threads=1)
    except se_nas.SeNasError as error:
        print(f"the measured network misses a budget: {error}")
        certificate = se_nas.certify(network, device="cpu", threads=1)
    for cost in certificate.costs:
        interval = f", 95 % interval {cost.ci95[0]:.3f} to {cost.ci95[1]:.3f}" if cost.ci95 else ""
        print(f"{cost.metric}: {cost.value:.6g} ({cost.how}{interval})")


if __name__ == "__main__":
    main(*sys.argv[1:])
