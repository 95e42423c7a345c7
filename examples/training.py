"""Compare training runs: loss, tokens per second and learning rate, as time series and by step.

    python examples/training.py --seconds 4

Three runs are processes that train a small model: which letter follows which in this file. Then a
sweep records 1,500 short runs, and reads the loss of the best one back, step by step. Needs
redismetrics[embedded]. Uses the server in REDISMETRICS_URL, otherwise the embedded server.
"""

import argparse
import math
import multiprocessing
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import redismetrics as rm

# Tokens per step.
BATCH = 512
# Learning rates to compare.
RATES = (0.5, 4.0, 32.0)
# The sweep: steps of each run, and seconds between two.
STEPS, STEP_SECONDS = 40, 0.05


def losses(text: str, seconds: float, peak: float) -> Iterator[tuple[float, float]]:
    """Train a bigram model by gradient descent; yield learning rate and loss (nats per token)."""
    letters = sorted(set(text))
    tokens = np.array([letters.index(letter) for letter in text])
    weights = np.zeros((len(letters), len(letters)))
    random = np.random.default_rng(0)
    rows = np.arange(BATCH)
    began = time.monotonic()
    while (progress := (time.monotonic() - began) / seconds) < 1:
        # Cosine decay.
        rate = peak * (1 + math.cos(math.pi * progress)) / 2
        at = random.integers(0, len(tokens) - 1, BATCH)
        before, after = tokens[at], tokens[at + 1]
        logits = weights[before]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        yield rate, float(-np.log(chances[rows, after]).mean())
        # The gradient of the loss with respect to the logits.
        chances[rows, after] -= 1
        np.add.at(weights, before, -rate * chances / BATCH)
        # Simulate a larger model.
        time.sleep(0.002)


def train(run_id: str, peak: float, seconds: float) -> None:
    # A run id is a good tag, also for thousands of runs. A step is metadata of its sample.
    tags = {"run_id": run_id}
    loss, rate, tokens = (
        rm.Gauge("train_loss", tags),
        rm.Gauge("learning_rate", tags),
        rm.Counter("train_tokens", tags),
    )
    for step_rate, step_loss in losses(Path(__file__).read_text(), seconds, peak):
        rate.set(step_rate)
        loss.set(step_loss)
        tokens.increment(BATCH)


def record_sweep(sweep: str, runs: int) -> dict[str, float]:
    """Record the loss of many short runs; return the learning rate of each."""
    # Every sample is kept, with its step. A tag may have a value for each run, of many sweeps.
    rm.declare(
        "sweep_loss",
        "gauge",
        help="Loss of the runs of a sweep.",
        exact_samples=True,
        retention=30 * 86_400,
        max_tag_values=100_000,
        max_series=100_000,
    )
    random = np.random.default_rng(1)
    rates = {f"{sweep}-{number}": float(random.lognormal()) for number in range(runs)}
    began = time.time() - STEPS * STEP_SECONDS
    for step in range(STEPS):
        for run, rate in rates.items():
            # Simulate a model that learns best at a rate of 1.
            loss = 2.5 / (1 + step * rate * math.exp(-rate)) + 0.01 * float(random.normal())
            rm.gauge(
                "sweep_loss",
                loss,
                tags={"run_id": run},
                metadata={"step": step},
                timestamp=began + step * STEP_SECONDS,
            )
    rm.flush()
    return rates


def compare_sweep(sweep: str, runs: int) -> None:
    """Record a sweep, and print the run with the smallest final loss."""
    began = time.time()
    rates = record_sweep(sweep, runs)
    window = (began - STEPS * STEP_SECONDS - 1, None)
    final = rm.rollup(
        "sweep_loss", group_by="run_id", aggregations=["last", "count"], window=window
    )
    of_sweep = {run: row for run, row in final.items() if run in rates}
    samples = sum(row["count"] for row in of_sweep.values())
    best = min(of_sweep, key=lambda run: of_sweep[run]["last"])
    print(f"\nSweep: {len(of_sweep):,} runs, {samples:,} samples.")
    print(f"Best: {best}, with a learning rate of {rates[best]:.3f}. Its loss, every 10 steps:")
    for sample in rm.query("sweep_loss", tags={"run_id": best}, window=window)[::10]:
        print(f"  step {sample.metadata['step']:<3} {sample.value:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train models in parallel and compare them.")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long (default: %(default)g)"
    )
    parser.add_argument(
        "--runs", type=int, default=1_500, help="runs of the sweep (default: %(default)g)"
    )
    given = parser.parse_args()

    began = time.time()
    sweep = uuid.uuid4().hex[:6]
    runs = {f"{sweep}-lr{rate:g}": rate for rate in RATES}
    # Spawn, because numpy has threads and a fork would copy their locks.
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=train, args=(run, rate, given.seconds)) for run, rate in runs.items()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    window = (began, None)
    print("mean loss per second (nats per token):\n")
    for run in runs:
        points = rm.time_series(
            "train_loss", interval="1s", aggregation="mean", tags={"run_id": run}, window=window
        )
        print(f"  {run:<14}", *(f"{point['mean']:6.2f}" for point in points))

    print(f"\n  {'run':<14}{'final loss':>12}{'best loss':>12}{'tokens/s':>12}{'last rate':>12}")
    loss = rm.rollup("train_loss", group_by="run_id", aggregations=["last", "min"], window=window)
    rate = rm.rollup("learning_rate", group_by="run_id", aggregations="last", window=window)
    tokens = rm.rollup("train_tokens", group_by="run_id", aggregations="sum", window=window)
    for run in runs:
        speed = tokens[run]["sum"] / given.seconds
        last, lowest = loss[run]["last"], loss[run]["min"]
        print(f"  {run:<14}{last:>12.3f}{lowest:>12.3f}{speed:>12,.0f}{rate[run]['last']:>12.3f}")
    best = min(runs, key=lambda run: loss[run]["last"])
    print(f"\nBest: {best}, with a learning rate of {runs[best]:g}.")

    compare_sweep(sweep, given.runs)


if __name__ == "__main__":
    main()
