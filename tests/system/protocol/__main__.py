"""Many random runs, with all rules, then without each rule in turn.

    python -m tests.system.protocol [first seed] [runs]

Prints one line for each. If a run with all rules loses or doubles a sample, it prints the history
of the first one and exits with 1.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.system.protocol.rules import ALL_RULES, Rule
from tests.system.protocol.runs import Run, history
from tests.system.protocol.weathers import WEATHERS


def one(rules: frozenset[Rule], seed: int) -> tuple[int, str | None]:
    """Play *seed* in its weather; return the number of results judged, and the first violation."""
    run = Run(seed, weather_of(seed), rules)
    return run.reads + run.pages, str(run.violations[0]) if run.violations else None


def weather_of(seed: int) -> str:
    return list(WEATHERS)[seed % len(WEATHERS)]


def campaign(
    pool: ProcessPoolExecutor, name: str, rules: frozenset[Rule], seeds: range
) -> int | None:
    """Play all *seeds*, print one line, and return the first with a violation."""
    results = dict(zip(seeds, pool.map(partial(one, rules), seeds, chunksize=20), strict=True))
    wrong = {seed: violation for seed, (_, violation) in results.items() if violation is not None}
    first = (
        f", first {min(wrong)} ({weather_of(min(wrong))}): {wrong[min(wrong)]:.120}"
        if wrong
        else ""
    )
    judged = sum(reads for reads, _ in results.values())
    print(
        f"{name}: {len(wrong)} of {len(seeds)} runs violate, {judged} results judged{first}",
        flush=True,
    )
    return min(wrong, default=None)


def main(first: int = 0, runs: int = 3600) -> int:
    """Play *runs* seeds from *first* on, and a quarter of them without each rule."""
    with ProcessPoolExecutor() as pool:
        broken = campaign(pool, "every rule", ALL_RULES, range(first, first + runs))
        for rule in Rule:
            campaign(
                pool,
                f"without {rule.name} ({rule.number})",
                ALL_RULES - {rule},
                range(first, first + runs // 4),
            )
    if broken is not None:
        print(history(broken, weather_of(broken), ALL_RULES))
    return int(broken is not None)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
