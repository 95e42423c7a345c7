"""Training runs side by side: loss, tokens a second and learning rate of each, asked as time series at the end.

    python examples/training.py --seconds 4

Each run is a process and trains a small model for real: which letter follows which, in the text of this file. Needs
redismetrics[embedded]. REDISMETRICS_URL says which store, else it is the embedded server.
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

BATCH = 512  # tokens of a step
RATES = (0.5, 4.0, 32.0)  # learning rates to compare


def losses(text: str, seconds: float, peak: float) -> Iterator[tuple[float, float]]:
    """Train a bigram model by gradient descent, and yield learning rate and loss (nats a token) of each step."""
    letters = sorted(set(text))
    tokens = np.array([letters.index(letter) for letter in text])
    weights = np.zeros((len(letters), len(letters)))
    random = np.random.default_rng(0)
    rows = np.arange(BATCH)
    began = time.monotonic()
    while (progress := (time.monotonic() - began) / seconds) < 1:
        rate = peak * (1 + math.cos(math.pi * progress)) / 2  # cosine decay
        at = random.integers(0, len(tokens) - 1, BATCH)
        before, after = tokens[at], tokens[at + 1]
        logits = weights[before]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        yield rate, float(-np.log(chances[rows, after]).mean())
        chances[rows, after] -= 1  # the gradient of the loss by the logits
        np.add.at(weights, before, -rate * chances / BATCH)
        time.sleep(0.002)  # as if the model were larger


def train(run_id: str, peak: float, seconds: float) -> None:
    # A run is a good tag while runs are counted in thousands. A step is none: its time tells it apart.
    tags = {"run_id": run_id}
    loss, rate, tokens = rm.Gauge("train_loss", tags), rm.Gauge("learning_rate", tags), rm.Counter("train_tokens", tags)
    for step_rate, step_loss in losses(Path(__file__).read_text(), seconds, peak):
        rate.set(step_rate)
        loss.set(step_loss)
        tokens.increment(BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train some models at once, and compare them.")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long (default: %(default)g)")
    given = parser.parse_args()

    began = time.time()
    sweep = uuid.uuid4().hex[:6]
    runs = {f"{sweep}-lr{rate:g}": rate for rate in RATES}
    spawn = multiprocessing.get_context("spawn")  # numpy has threads, and a fork would copy their locks
    processes = [spawn.Process(target=train, args=(run, rate, given.seconds)) for run, rate in runs.items()]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    window = (began, None)
    print("loss (nats a token), the mean of each second:\n")
    for run in runs:
        points = rm.time_series("train_loss", interval="1s", aggregation="mean", tags={"run_id": run}, window=window)
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
