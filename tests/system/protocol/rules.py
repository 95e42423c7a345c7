"""The rules that the protocol depends on.

A run takes a set of rules. Without any one of them, some run loses or doubles samples;
test_protocol.py shows it for each. Numbers that begin with m are those of docs/architecture.md;
those that begin with f concern the totals.
"""

from enum import Enum


class Rule(Enum):
    """A rule that the protocol depends on: its number, and what goes wrong without it."""

    DUE_UNREAD = (
        "m1",
        "A coarser slot is read while samples are only in finer slots: they are missing.",
    )
    DISTINCT_BLOCKS = "m2", "Two equal blocks become one member of the log: one of them is lost."
    FINER_FIRST = (
        "m3",
        "A day is built from an hour that is due itself: samples are missing in the day.",
    )
    PERSIST = "m4", "The minutes of an hour expire before the hour is built from them."
    PERSIST_AT_MARK = (
        "m4",
        "A late sample makes a day due, but only minutes persist: the hours of the day expire.",
    )
    PERSIST_ALL_CHUNKS = (
        "m4",
        "Building the hour of one chunk lets minutes of another expire whose hour is due.",
    )
    BUILT_THOUGH_PAST = (
        "m4",
        "An hour past its retention is not written, and is missing in the day built from it.",
    )
    MARGIN = "m4", "A key expires between the plan of a query and its reads: samples are missing."
    AGE_AT_RECORD = (
        "m5",
        "A batch is repeated after its writer was forgotten, and applied again.",
    )
    AGE_AT_SEALING = (
        "m5",
        "Samples of expired minutes cannot be committed, so the log after them is never sealed.",
    )
    AGE_AT_COMMIT = (
        "m5",
        "A worker that slept writes into an expired key: its hour is built from that alone.",
    )
    SAME_BLOCKS = (
        "m6",
        "Blocks that a worker has read are cut and counted, or lost by a failover.",
    )
    TOKEN = (
        "m7",
        "After a failover another state gets the same number: a commit for the lost one succeeds.",
    )
    WORKER_BRACKET = (
        "m8",
        "A worker merges reads across a failover that led back to the version it began with.",
    )
    WHOLE_READ = (
        "m9",
        "A commit in the middle of a reader's pipeline: samples are missing or doubled.",
    )
    SAME_AS_PLANNED = (
        "m9",
        "A commit between the two round trips of a query, whose plan is outdated then.",
    )
    COUNT_CUT = "m10", "Blocks cut from the log before sealing are missing, and not counted."
    MARK = (
        "m11",
        "A late sample is merged into its minute, but not into the hour built before.",
    )
    FIXED_BATCH = (
        "m12",
        "An unconfirmed batch changes but keeps its number: if it was applied, the change is lost.",
    )
    UNCONFIRMED_IS_UNKNOWN = (
        "m12",
        "An unconfirmed batch is rejected as too old and counted as dropped, but may be stored.",
    )
    WRITER_KEPT = (
        "m13",
        "A writer is forgotten while a batch is unconfirmed: the batch is applied twice.",
    )
    PRUNE_BY_SCRIPT = (
        "m14",
        "A series that was idle is recorded before the pruner removes it: samples without tags.",
    )
    IDS_NEVER_REUSED = (
        "m14",
        "The id of a removed series is given to another while a writer still uses it: wrong tags.",
    )
    FORGETFUL = (
        "m14",
        "A failover lost a series, and its id is given to another while a writer still uses it.",
    )
    GIVEN_UP_FORGETS = (
        "m14",
        "The reply that reports lost ids is lost and its batch given up: the ids are used again.",
    )
    EXACT_ONLY_IF_WHOLE = (
        "m15",
        "Some exact samples of a minute are taken for all of them: the others are missing.",
    )
    OWN_VERSION = (
        "m16",
        "A worker merges into a minute as it left it, but another commit has changed it since.",
    )
    CELL_OVER_SEGMENT = (
        "segments",
        "The segment's row is read instead of the minute's newer field: late samples are missing.",
    )

    # -- totals: base and changes

    ONE_HASH = (
        "f1",
        "Base and changes are read by two commands, with a fold in between: changes are missing.",
    )
    SERIES_LAST = (
        "f1",
        "Series are read before totals: of a batch new series are missing, others are not.",
    )
    SAME_VERSION = (
        "f2",
        "A failover undid a deletion: a worker writes back a field without that series.",
    )
    FIRST_WITH_ROWS = (
        "f2",
        "A worker's rows contain changes that a failover brings back: they count twice.",
    )
    NONE_OLDER = (
        "f2",
        "A failover brings back changes older than those folded: they are taken off unfolded.",
    )
    SAME_LAST = (
        "f2",
        "A failover puts other changes in place of those folded: they are taken off unfolded.",
    )
    TIME_IN_STAMP = (
        "f2",
        "A failover gives a batch the same clock after other changes: these are taken off.",
    )
    ADD_FOLDS_FIRST = (
        "f3",
        "A change of a gauge's shared value is applied to a value that lacks the waiting sets.",
    )
    FOLD_IN_ORDER = (
        "f3",
        "Gauges are folded with the newest batch's clock, not each batch's: a wrong set stays.",
    )
    EPOCH = "f4", "A batch names a deleted series by its id: samples without tags."
    NEW_EPOCH_FORGETS = (
        "f4",
        "Ids learned before a deletion are sent with the epoch learned after it.",
    )
    EPOCH_AS_PACKED = (
        "f4",
        "A batch packed with ids from before a deletion is sent with the epoch from after it.",
    )
    DELETE_BY_SCRIPT = (
        "f4",
        "A deletion writes back a state that a batch has changed meanwhile: ids are used again.",
    )
    SEEN_IN_CHANGES = (
        "f5",
        "A series that is idle in the base but was recorded in the changes is forgotten.",
    )
    PACKED_ANEW = (
        "f6",
        "A batch packed ahead is sent with ids that the reply to the one before made invalid.",
    )
    REFUSED_FIRST = (
        "f6",
        "Refused samples are sent again after newer ones: an older set of a gauge is kept.",
    )
    FOLD_IN_MARK = (
        "f7",
        "A copy does not notice a fold between its reads: changes are missing.",
    )
    BOUNDED = "f8", "Without a worker the list of changes grows for ever."

    # -- room for what later versions store

    WRITTEN_ONCE = (
        "f10",
        "A repeated batch writes values and exemplars again, over newer or deleted ones.",
    )
    HEARTBEAT = "f10", "A process that is gone counts for ever in a live merge mode."
    SWEEP_AS_READ = (
        "f10",
        "A process sends a value after the sweep has read the old one: the new one is removed.",
    )
    SWEEP_IN_MARK = (
        "f10",
        "A copy does not notice a sweep between its reads: values are missing or doubled.",
    )
    TAKEN_BACK = (
        "f10",
        "A process comes back after its value was merged into those of gone ones: it counts twice.",
    )
    ENDS_AT_ONCE = (
        "f10",
        "A process that has said that it ends counts in a live merge mode until it is silent.",
    )
    BEAT_CREATES_NOTHING = (
        "f10",
        "An idle process repeats its value, and so brings back a series that was deleted.",
    )
    UNKNOWN_KIND_STAYS = (
        "f11",
        "An older worker or script takes off a change of a kind that it cannot fold.",
    )
    NEWEST_EXEMPLAR = "f12", "A late sample replaces a newer exemplar."
    EXEMPLARS_FIRST = (
        "f12",
        "Exemplars are read after the totals: one is of a sample that its bucket does not contain.",
    )
    NEWEST_SHOWN = (
        "f15",
        "What was set for the same tags before is on the page beside the newest.",
    )
    REPLACED_IS_CLEARED = (
        "f15",
        "A process sets two values at the same time: it is not known which is the newer one.",
    )
    DEFINITION_AS_READ = (
        "f13",
        "A process writes back a definition that was deleted or replaced after it was read.",
    )
    OPTIONS_WHOLE = "f13", "Options of two processes become a mixture that neither has set."
    UNKNOWN_FIELDS_KEPT = (
        "f13",
        "A process of an older version sets options and loses what a newer version has set.",
    )
    DEFINITION_OF_EPOCH = (
        "f14",
        "A batch without definition is accepted, made by another definition than the stored one.",
    )

    def __init__(self, number: str, without: str) -> None:
        self.number = number
        self.without = without


Rules = frozenset[Rule]

ALL_RULES: Rules = frozenset(Rule)
