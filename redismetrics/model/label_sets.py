"""Infos and state sets: metrics whose value is in their tags, and is replaced as a whole.

Both are stored as gauges with the value 1. The series of an info has its tags and its labels; an
extra tag says which of them are labels. The series of a state set has its tags, and the state as
the value of a tag named like the metric, as in OpenMetrics. Among series whose tags are otherwise
equal, the one that was set last is shown.
"""

from collections.abc import Mapping
from typing import Any

from redismetrics.errors import InvalidTags, InvalidValue, shown

from .validation import MetricType, clean_tags

# The types whose value is in their tags.
LABEL_TYPES: tuple[MetricType, ...] = ("info", "stateset")
# The tag of an info that holds the names of its labels, joined by a comma, which no name contains.
LABELS_TAG = "redismetrics.labels"


def info_tags(name: str, tags: Mapping[str, str], labels: Any) -> dict[str, str]:
    """Return the tags of an info's series with these clean *tags*.

    Raises:
        InvalidValue: If *labels* are not a mapping.
        InvalidTags: If a label is invalid, or has the name of a tag.
    """
    if not isinstance(labels, Mapping):
        raise InvalidValue(
            f"{name!r} is an info: its value must be a mapping of labels, got {shown(labels)}"
        )
    clean = clean_tags(labels)
    both = clean.keys() & {*tags, LABELS_TAG}
    if both or LABELS_TAG in tags:
        raise InvalidTags(
            f"labels of an info must have other names than its tags, got {sorted(both) or tags}"
        )
    return clean_tags({**tags, **clean, LABELS_TAG: ",".join(clean)})


def state_tags(
    name: str, tags: Mapping[str, str], state: Any, states: tuple[str, ...] | None
) -> dict[str, str]:
    """Return the tags of a state's series with these clean *tags*.

    *states* are all states of the set, or None if they are unknown.

    Raises:
        InvalidValue: If *state* is not one of the states.
        InvalidTags: If the name of the metric is also a tag.
    """
    if name in tags:
        raise InvalidTags(f"tag {name!r} holds the state of the state set; use another name")
    if not isinstance(state, str) or not state or (states is not None and state not in states):
        allowed = "the name of a state" if states is None else f"one of {', '.join(states)}"
        raise InvalidValue(
            f"{name!r} is a state set: its value must be {allowed}, got {shown(state)}"
        )
    return clean_tags({**tags, name: state})


def split_tags(
    kind: MetricType, name: str, tags: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the tags of a series, and its labels, or its state as the only label.

    Tags with an empty value are left out, because Prometheus treats them as missing.
    """
    if kind == "info":
        labels = tags.get(LABELS_TAG, "").split(",")
        hidden = {*labels, LABELS_TAG}
    else:
        labels = [name]
        hidden = {name}
    about = {key: value for key, value in tags.items() if value and key not in hidden}
    return about, {key: tags[key] for key in labels if key in tags}
