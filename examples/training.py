"""Compare training runs: loss, tokens per second and learning rate, as time series.

    python examples/training.py --seconds 4

Each run is a process that trains a small model: which letter follows which in this file. Needs
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
    # A run id is a good tag for up to some thousands of runs. A step is not a tag: its timestamp
    # identifies it.
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Train models in parallel and compare them.")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long (default: %(default)g)"
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


if __name__ == "__main__":
    main()
