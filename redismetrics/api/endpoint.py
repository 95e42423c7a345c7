"""The description of an endpoint: its route and its part of the OpenAPI document."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .parameters import Parameter
from .schemas import Schema


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method: its parameters, request bodies and responses.

    *handler* is called with the service, the request and the parameters' values, and returns the
    response. *schema* describes the JSON of a successful response; it is None if *media_types*
    names other content types. *other_results* maps other success status codes to their schemas.
    *headers* maps the request headers that it reads to their descriptions. *bodies* maps the
    accepted content types to their schemas. *errors* are error status codes besides 400, 401 and
    403. An endpoint that *writes* needs write permission. With *form*, parameters may be in the
    query string or in a form body; unknown ones are ignored.
    """

    method: str
    path: str
    summary: str
    handler: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    schema: Schema | None = None
    media_types: tuple[str, ...] = ("application/json",)
    headers: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, Schema] = field(default_factory=dict)
    status: int = 200
    other_results: Mapping[int, Schema] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    requires_token: bool = True
    writes: bool = False
    form: tuple[Parameter, ...] | None = None
