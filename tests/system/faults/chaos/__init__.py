"""Kill and disturb everything at random moments; afterwards account for every sample.

    python -m tests.system.faults.chaos --seconds 300 --seed 7

Prints the balance. The exit status is 0 if it is exact, else 1 after a list of what is wrong.

    writers ──┬── socket ────────────────> server  (append-only file, synced before each reply)
              └── proxy (loses replies) ─>   ^  ^
    two workers, for which every slot is due ┘  └── readers that compare each result with the books
                                                    of the writers, and subscribers that must
                                                    receive everything once, or a gap

Each process is killed, or ended by SIGTERM. The clocks of the server and of the writers are moved,
by so little that nothing may be dropped, or by so much that samples are dropped and counted.

The samples of a writer depend only on the seed and its number. So its book is three numbers: how
many it recorded, written before each, how many a `flush` confirmed, and how many were dropped by
then. They are in a mapped file, which survives SIGKILL. The samples of a series are stored in the
order of recording, so what is stored of it must be its first samples: at least those confirmed, at
most those recorded. Count, sum, minutes and hours must equal a plain list of them. The values are
random, so that a lost and a doubled batch change the sum even if they do not change the count. A
writer that lived while samples could be dropped is judged by counts: those stored and those dropped
must make up those recorded.

Each value encodes its series (see `facts`), so whatever is read anywhere, one sample or a sum,
shows whether it has the tags with which it was recorded.

The seed determines what is recorded, what is done, in which order and after which pauses, but not
what the processes do at that moment.
"""
