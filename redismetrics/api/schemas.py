"""JSON Schemas of parameters and results, for the OpenAPI document."""

import re
from collections.abc import Mapping
from typing import Any

from redismetrics.model.time import YEAR_10000
from redismetrics.model.time_text import OLDEST_SECONDS
from redismetrics.model.validation import NAME_PATTERN, TYPES
from redismetrics.model.windows import DURATION_PATTERN, INTERVALS, WINDOWS
from redismetrics.queries.arguments import AGGREGATIONS, PERCENTILE_PATTERN

Schema = Mapping[str, Any]


def _pattern(*alternatives: "re.Pattern[str] | str") -> str:
    """Return a regular expression for texts that fully match one of *alternatives*."""
    texts = (
        each if isinstance(each, str) else each.pattern.removesuffix(r"\Z") for each in alternatives
    )
    return f"^(?:{'|'.join(texts)})$"


_NAME_TEXT = NAME_PATTERN.pattern.removesuffix(r"\Z")

# -- parameters ---------------------------------------------------------------------------------

NAME = {"type": "string", "pattern": _pattern(NAME_PATTERN)}
NAME_OR_PATTERN = {"type": "string", "minLength": 1, "maxLength": 200}
TYPE = {"type": "string", "enum": list(TYPES)}
TAG = {"type": "string", "pattern": f"^(?:{_NAME_TEXT}=[\\s\\S]*|!{_NAME_TEXT})$"}
AGGREGATION = {"type": "string", "pattern": _pattern(*AGGREGATIONS, PERCENTILE_PATTERN)}
WINDOW = {"type": "string", "pattern": _pattern(*WINDOWS, DURATION_PATTERN)}
INTERVAL = {"type": "string", "pattern": _pattern(*INTERVALS, DURATION_PATTERN)}
TIME = {
    "anyOf": [
        # In a query at most a year from now; smaller numbers look like a date.
        {"type": "number", "minimum": OLDEST_SECONDS, "maximum": YEAR_10000 - 1},
        {"type": "number", "const": 0},
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": _pattern(*WINDOWS, DURATION_PATTERN)},
    ]
}
BOOLEAN = {"type": "boolean"}
EVERY = {"type": "number", "minimum": 0.1, "maximum": 3600}

# -- results ------------------------------------------------------------------------------------

TIMESTAMP = {"type": "string", "format": "date-time"}
UNIX_TIMES = {"type": "array", "items": {"type": "integer"}}
TEXTS = {"type": "array", "items": {"type": "string"}}
VALUE = {"type": ["number", "null"]}
ROW = {"type": "object", "additionalProperties": {"type": ["number", "string", "null"]}}
ROWS = {"type": "array", "items": ROW}
# A window as it was given: text, or since and until.
RESULT_WINDOW = {
    "oneOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {"type": ["string", "null"], "format": "date-time"},
            "minItems": 2,
            "maxItems": 2,
        },
    ]
}


def object_schema(**properties: Schema) -> dict[str, Any]:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def result_schema(**properties: Schema) -> dict[str, Any]:
    """Return the schema of a JSON-ready result: these properties and the timestamp."""
    return object_schema(**properties, timestamp=TIMESTAMP)


_TEXT_BY_NAME = {"type": "object", "additionalProperties": {"type": "string"}}
EXEMPLAR = object_schema(
    name=NAME,
    tags=_TEXT_BY_NAME,
    labels=_TEXT_BY_NAME,
    value={"type": "number"},
    timestamp=TIMESTAMP,
    le={"type": ["string", "null"]},
)
SAMPLE = object_schema(
    name=NAME,
    type=TYPE,
    value=VALUE,
    tags=_TEXT_BY_NAME,
    timestamp=TIMESTAMP,
    metadata={"type": "object"},
)
