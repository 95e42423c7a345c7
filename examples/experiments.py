"""Compare results of experiments by model and dataset, and the progress of agents.

    python examples/experiments.py --seconds 2

Needs redismetrics[embedded]. Uses the server in REDISMETRICS_URL, otherwise the embedded server.
"""

import argparse
import random
import time
from itertools import count, product

import redismetrics as rm

# The true quality of each model, which the experiments estimate.
MODELS = {"llama-3.1": 0.72, "qwen": 0.68}
DATASETS = {"scifact": 0.03, "fever": -0.04}
AGENTS = ("proposer", "antagonist", "synthesizer")


def entailment_score(model: str, dataset: str) -> float:
    """Simulate an evaluation."""
    time.sleep(0.002)
    return min(max(random.gauss(MODELS[model] + DATASETS[dataset], 0.08), 0.0), 1.0)


def run_experiment(number: int) -> None:
    for model, dataset in product(MODELS, DATASETS):
        with rm.measure("evaluation", tags={"model": model}) as timer:
            score = entailment_score(model, dataset)
        rm.record(
            "experiment_result",
            {
                "value": score,
                # Group by tags. Keep details to look up later as metadata: it creates no series.
                "tags": {"model": model, "dataset": dataset, "stage": "validation"},
                "metadata": {"run": f"exp_{number}", "took_ms": round(timer.elapsed, 2)},
            },
        )


def refine(iterations: int = 3) -> None:
    """Run each agent in turn; scores improve with each iteration."""
    for iteration, agent in product(range(iterations), AGENTS):
        score = random.gauss(0.5 + 0.1 * iteration, 0.03)
        rm.record("agent_score", {"value": score, "tags": {"agent": agent, "iteration": iteration}})


def main() -> None:
    parser = argparse.ArgumentParser(description="Run experiments and compare the models.")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="how long (default: %(default)g)"
    )
    given = parser.parse_args()

    rm.declare(
        "experiment_result",
        "histogram",
        help="Entailment score",
        buckets=[0.2, 0.4, 0.6, 0.7, 0.8, 0.9],
    )
    rm.declare("agent_score", "histogram", help="Score of an agent's answer")
    began = time.time()
    for number in count(1):
        run_experiment(number)
        refine()
        if time.time() - began > given.seconds:
            break

    # Only this run. Use "last_30d" for the runs of a month.
    window = (began, None)
    print(f"{number} experiments.\n")
    print(f"{'model/dataset':<20}{'mean':>8}{'p5':>8}{'p95':>8}{'count':>8}")
    results = rm.rollup(
        "experiment_result",
        group_by=["model", "dataset"],
        aggregations=["mean", "p5", "p95", "count"],
        window=window,
    )
    for group, row in results.items():
        print(f"{group:<20}{row['mean']:>8.3f}{row['p5']:>8.3f}{row['p95']:>8.3f}{row['count']:>8}")

    print(
        "\nby model alone:",
        rm.query("experiment_result", group_by="model", aggregation="mean", window=window),
    )
    print(
        "on fever alone:",
        rm.query("experiment_result", tags={"dataset": "fever"}, aggregation="mean", window=window),
    )

    print("\nthe synthesizer by iteration:")
    rows = rm.query(
        "agent_score",
        tags={"agent": "synthesizer"},
        group_by="iteration",
        aggregation="mean",
        window=window,
    )
    for row in rows:
        print(f"  {row['iteration']}  {row['mean']:.3f}  {'#' * round(row['mean'] * 40)}")

    worst = min(rm.query("experiment_result", window=window), key=lambda sample: sample.value)
    print(
        f"\nThe worst of the samples that are kept: {worst.value:.3f}, "
        f"{worst.tags} {worst.metadata}"
    )


if __name__ == "__main__":
    main()
