"""Leases: one holder at a time, and a fence that only grows."""

import random

import msgpack
import pytest
import redis

from redismetrics.store.driver import run
from redismetrics.store.lease import Lease, release, take

MINUTE = 60_000


@pytest.fixture
def leases(namespace: str) -> str:
    return f"rm:{{{namespace}:alerts}}:leases"


def expire(admin: redis.Redis, leases: str, name: str) -> None:
    """Let the lease end now, by the server's clock."""
    seconds, microseconds = admin.time()
    holder, fence, _ = msgpack.unpackb(admin.hget(leases, name))
    ended = msgpack.packb([holder, fence, seconds * 1_000_000 + microseconds - 1])
    admin.hset(leases, name, ended)


def test_only_one_process_has_a_lease(admin: redis.Redis, leases: str) -> None:
    first = run(admin, take(leases, "group", "a", MINUTE))
    assert (first.holder, 0 < first.valid_ms <= MINUTE) == ("a", True)
    second = run(admin, take(leases, "group", "b", MINUTE))
    assert (second.holder, second.fence) == ("a", first.fence)
    assert run(admin, take(leases, "another", "b", MINUTE)).holder == "b"


def test_a_renewed_lease_keeps_its_fence(admin: redis.Redis, leases: str) -> None:
    first = run(admin, take(leases, "group", "a", 1000))
    renewed = run(admin, take(leases, "group", "a", MINUTE))
    assert renewed.fence == first.fence
    assert renewed.valid_ms > 1000


@pytest.mark.parametrize("again", ["a", "b"])
def test_an_expired_lease_gets_a_larger_fence(admin: redis.Redis, leases: str, again: str) -> None:
    first = run(admin, take(leases, "group", "a", MINUTE))
    expire(admin, leases, "group")
    second = run(admin, take(leases, "group", again, MINUTE))
    assert second.holder == again
    # Also for the same process: it may have been stopped, and another may have worked meanwhile.
    assert second.fence > first.fence


def test_a_fence_grows_when_the_hash_was_lost(admin: redis.Redis, leases: str) -> None:
    first = run(admin, take(leases, "group", "a", MINUTE))
    admin.delete(leases)
    assert run(admin, take(leases, "group", "b", MINUTE)).fence > first.fence


def test_only_its_holder_releases_a_lease(admin: redis.Redis, leases: str) -> None:
    first = run(admin, take(leases, "group", "a", MINUTE))
    assert run(admin, release(leases, "group", "b")).holder == "a"
    assert run(admin, release(leases, "group", "a")).valid_ms == 0
    second = run(admin, take(leases, "group", "b", MINUTE))
    assert (second.holder, second.fence > first.fence) == ("b", True)


def test_releasing_a_lease_that_nobody_has(admin: redis.Redis, leases: str) -> None:
    assert run(admin, release(leases, "group", "a")) == Lease("", 0, 0)
    assert not admin.exists(leases)


def test_the_hash_expires(admin: redis.Redis, leases: str) -> None:
    run(admin, take(leases, "group", "a", MINUTE))
    assert 0 < admin.ttl(leases) <= 86400


def test_histories_have_one_holder_per_fence(admin: redis.Redis, leases: str) -> None:
    """Random histories: no fence has two holders, and none is smaller than an earlier one."""
    chance = random.Random(7)
    holders: dict[int, str] = {}
    newest = 0
    for _ in range(300):
        what = chance.choice(["take", "take", "take", "release", "expire", "lose"])
        name = chance.choice("abc")
        if what == "expire" and admin.hexists(leases, "group"):
            expire(admin, leases, "group")
        elif what == "lose":
            admin.delete(leases)
        else:
            step = (
                take(leases, "group", name, MINUTE)
                if what == "take"
                else release(leases, "group", name)
            )
            lease = run(admin, step)
            if lease.valid_ms:
                assert holders.setdefault(lease.fence, lease.holder) == lease.holder
                assert lease.fence >= newest
                newest = lease.fence
    assert len(holders) > 20
