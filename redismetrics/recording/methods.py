"""The recording methods of clients: `increment`, `gauge`, `histogram`, `record`, `measure`.

The fast paths accept int and float within bounds that are written as literals, because a global
would cost 10 ns. Other numbers take the checked path, `Recorder.add`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from redismetrics.errors import InvalidMetric, InvalidTags, shown
from redismetrics.model.definition import Definition, define
from redismetrics.model.exemplar import check_exemplar
from redismetrics.model.validation import MetricType, Tags, check_name, check_type

from .internals import RecordingInternals
from .recorder import Recorder
from .timer import Timer, check_measurable, time_scale

if TYPE_CHECKING:
    from .instruments import Gauge

R = TypeVar("R")

# The default amount. `is ONE` skips the type and range check, which is a third of the call.
ONE = 1


class Recording:
    """The recording methods: the same plain functions in `Metrics` and `AsyncMetrics`.

    None of them waits for Redis. For invalid arguments, all raise a subclass of `InvalidMetric`
    before anything is recorded.
    """

    # For packages of this project: see `RecordingInternals`.
    internals: RecordingInternals
    _recorder: Recorder

    def increment(
        self,
        name: str,
        amount: float = 1,
        *,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        exemplar: Mapping[str, Any] | None = None,
    ) -> None:
        """Add *amount*, at least 0, to a counter; 0 only creates the series.

        *exemplar* is a mapping of labels for this increment, such as a trace id, of at most 128
        characters. The newest exemplar of each series is kept.
        """
        recorder = self._recorder
        if (
            (
                amount is ONE
                or (
                    (amount.__class__ is int or amount.__class__ is float)
                    and 0 <= amount <= 1.7e308
                )
            )
            and metadata is None
            and timestamp is None
            and exemplar is None
        ):
            # The fast path: a series seen before.
            try:
                recorder.counters[(name, *tags, *tags.values()) if tags else name](amount)
                return
            except (KeyError, TypeError, AttributeError):
                pass
        recorder.add("counter", name, amount, tags, metadata, timestamp, exemplar)

    @overload
    def gauge(
        self,
        name: str,
        value: float,
        *,
        tags: Tags | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        timestamp: Any = ...,
    ) -> None: ...

    @overload
    def gauge(
        self, name: str, *, tags: Tags | None = ..., per: str, merge: str | None = ...
    ) -> "Gauge": ...

    def gauge(
        self,
        name: str,
        value: Any = None,
        # Before the *, because a default after it costs 25 ns per call.
        per: str | None = None,
        merge: str | None = None,
        *,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
    ) -> Any:
        """Set a gauge now, or at *timestamp* (aware datetime or Unix seconds).

        With ``per="process"`` and no value, return a `Gauge` with a separate value per process.
        """
        if per is not None:
            return self._gauge_per_process(name, value, tags, per, merge)
        self._record_value(self._recorder.gauges, "gauge", name, value, tags, metadata, timestamp)
        return None

    def _gauge_per_process(
        self, name: str, value: Any, tags: Tags | None, per: str, merge: str | None
    ) -> "Gauge":
        from .instruments import Gauge

        if value is not None:
            raise InvalidMetric(
                f"gauge() takes a value or per, got the value {shown(value)} and per={shown(per)}; "
                f"use gauge({name!r}, per='process').set(value), or declare"
            )
        return Gauge(name, tags, metrics=self, per=per, merge=merge)

    def histogram(
        self,
        name: str,
        value: float,
        *,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        exemplar: Mapping[str, Any] | None = None,
    ) -> None:
        """Record one value of a distribution.

        *exemplar* is a mapping of labels for this value, such as a trace id, of at most 128
        characters. The newest exemplar of each series and bucket is kept.
        """
        self._record_value(
            self._recorder.histograms,
            "histogram",
            name,
            value,
            tags,
            metadata,
            timestamp,
            exemplar,
        )

    def _record_value(
        self,
        cache: dict[Any, Any],
        kind: MetricType,
        name: str,
        value: Any,
        tags: Tags | None,
        metadata: Any,
        timestamp: Any,
        exemplar: Any = None,
    ) -> None:
        if (
            (value.__class__ is int or value.__class__ is float)
            and -1.7e308 <= value <= 1.7e308
            and metadata is None
            and timestamp is None
            and exemplar is None
        ):
            # The fast path: a series seen before.
            try:
                extend = cache[(name, *tags, *tags.values()) if tags else name]
                extend((self._recorder.clock(), value))
                return
            except (KeyError, TypeError, AttributeError):
                pass
        self._recorder.add(kind, name, value, tags, metadata, timestamp, exemplar)

    def record(
        self,
        name: str,
        value: Any = 1,
        *,
        type: MetricType | None = None,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        exemplar: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a sample of *type*, the declared type, or a type inferred from name and value.

        For the last, see `infer_type`. *value* may be a mapping with the keys `value` (default 1),
        `tags` and `metadata`; its other keys become metadata, and those in the setting
        `promoted_tags` become tags too. The value of an info is a mapping of labels; the value of a
        state set is the name of a state. A counter or histogram may have an *exemplar*, as in
        `increment`.
        """
        kind = None if type is None else check_type(type)
        if isinstance(value, Mapping) and not self._is_labels(name, kind, value):
            try:
                value, tags, metadata = unpack_mapping(value, tags, metadata)
            except InvalidTags as error:
                check_name(name)
                self._recorder.refuse(error)
                return
        self._recorder.add(kind, name, value, tags, metadata, timestamp, exemplar)

    def check(
        self,
        name: str,
        value: Any = 1,
        *,
        type: MetricType | None = None,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
        timestamp: Any = None,
        exemplar: Mapping[str, Any] | None = None,
    ) -> MetricType:
        """Check the arguments of `record`, and return the type that the sample would have.

        Records nothing, so a list of samples can be checked before the first one is recorded.

        Raises:
            InvalidMetric: A subclass of it, whatever the setting `on_invalid` is.
        """
        kind = None if type is None else check_type(type)
        check_name(name)
        if isinstance(value, Mapping) and not self._is_labels(name, kind, value):
            value, tags, metadata = unpack_mapping(value, tags, metadata)
        found = self._recorder.checked(kind, name, value, tags, metadata, timestamp)[0]
        if exemplar is not None:
            check_exemplar(name, found, exemplar)
        return found

    def _is_labels(self, name: str, kind: MetricType | None, value: Mapping[str, Any]) -> bool:
        """Return whether *value* is the labels of an info, not the mapping accepted by `record`."""
        if isinstance(value.get("value"), Mapping):
            return False
        return self._recorder.type_of(check_name(name), kind) == "info"

    @overload
    def measure(
        self,
        name: str,
        fn: None = None,
        *,
        tags: Tags | None = ...,
        unit: str | None = ...,
        outcome_tag: str | None = ...,
    ) -> Timer: ...

    @overload
    def measure(
        self,
        name: str,
        fn: Callable[[], R],
        *,
        tags: Tags | None = ...,
        unit: str | None = ...,
        outcome_tag: str | None = ...,
    ) -> R: ...

    def measure(
        self,
        name: str,
        fn: Callable[[], Any] | None = None,
        *,
        tags: Tags | None = None,
        unit: str | None = None,
        outcome_tag: str | None = None,
    ) -> Any:
        """Record how long something takes, as a histogram, even if it raises.

        With *fn*, run it and return its result. Without it, return a `Timer`, which is a context
        manager and a decorator for plain, async and generator functions. If the function returns a
        coroutine or an asyncio future, it is measured until that is done. The unit is milliseconds,
        unless the metric is declared in seconds, its name ends in ``_seconds``, or *unit* is
        ``"s"``. *outcome_tag* is the name of a tag that is set to ``ok`` or the class of the error.
        """
        if fn is not None and not callable(fn):
            raise InvalidMetric(f"fn must be a function without arguments, got {shown(fn)}")
        if outcome_tag is not None:
            check_name(outcome_tag, "outcome_tag")
        check_measurable(self._recorder, check_name(name), unit)
        invalid = None
        try:
            self._recorder.tags(name, tags, None if outcome_tag is None else {outcome_tag: "ok"})
        except InvalidTags as error:
            invalid = error
            if self._recorder.settings.on_invalid == "raise":
                raise
        timer = Timer(MeasuredMetric(self, name, tags, unit, outcome_tag, invalid))
        return timer if fn is None else timer.run(fn)

    def declare(
        self,
        name: str,
        type: MetricType,
        *,
        help: str = "",
        unit: str = "",
        buckets: Iterable[float] | None = None,
        tag_keys: Iterable[str] | None = None,
        exact_samples: bool | None = None,
        retention: float | None = None,
        lookback: float | None = None,
        max_tag_values: int | None = None,
        max_series: int | None = None,
        per: str | None = None,
        merge: str | None = None,
        states: Iterable[str] | None = None,
    ) -> None:
        """Define a metric: its type, help, unit, the buckets of a histogram, and the allowed tags.

        The first definition wins. A different one raises `TypeMismatch` if the first was made in
        this process; if it was made in another process, the difference is logged and counted.

        The other arguments are options. They may be changed later: the newest declaration that
        gives an option wins, in all processes, once a sample of the metric has been stored after
        it. An option that is not given keeps its value.

        *exact_samples* keeps every sample of a gauge, histogram or summary, with its time and
        metadata, for *retention* seconds; see docs/training.md. *lookback* is the maximum age, in
        seconds, of the sample that PromQL uses as the current one. *max_tag_values* and
        *max_series* override the settings of the same names. *per* and *merge* are for gauges with
        a separate value per process, *states* is for state sets.
        """
        definition = define(
            name,
            type,
            help=help,
            unit=unit,
            buckets=buckets,
            tag_keys=tag_keys,
            exact_samples=exact_samples,
            retention=retention,
            lookback=lookback,
            max_tag_values=max_tag_values,
            max_series=max_series,
            per=per,
            merge=merge,
            states=states,
        )
        self._recorder.declare(name, definition)


@dataclass(slots=True)
class MeasuredMetric:
    """The histogram of one `measure`. If its tags are *invalid*, samples are rejected."""

    metrics: Recording
    name: str
    tags: Tags | None
    unit: str | None
    outcome_tag: str | None
    invalid: InvalidTags | None
    # The definition for which the scale was looked up last.
    _scaled: tuple[Definition | None, float] = (None, 1.0)

    def scale(self) -> float:
        """Return the factor from seconds to the metric's unit."""
        recorder = self.metrics._recorder
        known = recorder.registry.metrics.get(self.name)
        definition, factor = self._scaled
        if known is None or known.definition is not definition or not known.explicit:
            factor = time_scale(recorder, self.name, self.unit)
            found = recorder.registry.metrics.get(self.name)
            self._scaled = (None if found is None else found.definition, factor)
        return factor

    def record(self, elapsed: float, error: BaseException | None) -> None:
        """Record a duration, with the outcome as a tag."""
        if self.invalid is not None:
            self.metrics._recorder.refuse(self.invalid)
            return
        tags = self.tags
        if self.outcome_tag is None:
            # The fast path of `histogram`, without a call.
            recorder = self.metrics._recorder
            try:
                extend = recorder.histograms[
                    (self.name, *tags, *tags.values()) if tags else self.name
                ]
                extend((recorder.clock(), elapsed))
                return
            except (KeyError, TypeError, AttributeError):
                pass
        if self.outcome_tag is not None:
            tags = {**(tags or {}), self.outcome_tag: "ok" if error is None else _class_name(error)}
        self.metrics.histogram(self.name, elapsed, tags=tags)


def _class_name(error: BaseException) -> str:
    """Return the class name of *error* as a valid tag value."""
    return type(error).__name__[:200].encode(errors="replace").decode()


def unpack_mapping(
    value: Mapping[str, Any], tags: Tags | None, metadata: Mapping[str, Any] | None
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the value, tags and metadata of a mapping passed to `record`.

    Raises:
        InvalidTags: If tags or metadata are not mappings.
    """
    data = dict(value)
    for argument, given in (("tags", tags), ("metadata", metadata)):
        for part in (data.get(argument), given):
            if part is not None and not isinstance(part, Mapping):
                raise InvalidTags(f"{argument} must be a mapping, got {shown(part)}")
    amount = data.pop("value", 1)
    below, beside = data.pop("tags", None) or {}, data.pop("metadata", None) or {}
    return amount, {**below, **(tags or {})}, {**beside, **data, **(metadata or {})}
