"""A long campaign: random runs with every rule in place, then with each rule taken out in turn.

    python -m tests.system.protocol [first seed] [runs]

Prints one line for each; exits with 1, and the first history that went wrong, when the rules together lost or doubled a sample.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.system.protocol.protocol import ALL_RULES, Rule
from tests.system.protocol.runs import WEATHERS, Run, told


def one(rules: frozenset[Rule], seed: int) -> tuple[int, str | None]:
    """Play *seed* in the weather that is its own: how many answers were judged, and the first violation."""
    run = Run(seed, weather_of(seed), rules)
    return run.reads, str(run.violations[0]) if run.violations else None


def weather_of(seed: int) -> str:
    return list(WEATHERS)[seed % len(WEATHERS)]


def campaign(
    pool: ProcessPoolExecutor, name: str, rules: frozenset[Rule], seeds: range
) -> int | None:
    """Play all *seeds*, print a line, and return the first that went wrong."""
    results = dict(zip(seeds, pool.map(partial(one, rules), seeds, chunksize=20), strict=True))
    wrong = {seed: violation for seed, (_, violation) in results.items() if violation is not None}
    first = (
        f", first {min(wrong)} ({weather_of(min(wrong))}): {wrong[min(wrong)]:.120}"
        if wrong
        else ""
    )
    judged = sum(reads for reads, _ in results.values())
    print(
        f"{name}: {len(wrong)} of {len(seeds)} runs violate, {judged} answers judged{first}",
        flush=True,
    )
    return min(wrong, default=None)


def main(first: int = 0, runs: int = 3600) -> int:
    """Play *runs* histories from seed *first*, and a quarter of them without each rule."""
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
        print(told(broken, weather_of(broken), ALL_RULES))
    return int(broken is not None)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
