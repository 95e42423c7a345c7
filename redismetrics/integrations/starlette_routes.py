"""The route template of a request that Starlette or FastAPI has routed."""

from collections.abc import Iterable, Mapping
from typing import Any


def route_template(scope: Mapping[str, Any], app: Any, root_path: str, path: str) -> str | None:
    """Return the full template of the route that served a request, or None if there is none.

    Args:
        scope: The scope after routing.
        app: The application with all routes.
        root_path: The root path of the request, before routing.
        path: The path of the request after that root path.
    """
    routes = getattr(app, "routes", None) or ()
    route = scope.get("route")
    if route is None:
        # Starlette up to 1.0 stores only the endpoint.
        endpoint = scope.get("endpoint")
        return None if endpoint is None else _template_of_endpoint(routes, path, endpoint)
    template = getattr(route, "path", None)
    context = scope.get("fastapi")
    if isinstance(context, dict):
        # FastAPI's route of an included router, with the prefix of that router.
        template = getattr(context.get("effective_route_context"), "path", None) or template
    mounts: str | None = ""
    inner_root_path = str(scope.get("root_path") or "")
    if inner_root_path != root_path:
        mounts = _template_of_mounts(routes, inner_root_path.removeprefix(root_path))
    if mounts is None:
        return None
    if hasattr(route, "app") and hasattr(route, "routes"):
        # A Mount of an application without routes.
        template = ""
    return f"{mounts}{template or ''}" or "/"


def _template_of_endpoint(routes: Iterable[Any], path: str, endpoint: Any) -> str | None:
    """Return the template of the route to *path* with this endpoint."""
    for route in routes:
        inner, regex = getattr(route, "routes", None), getattr(route, "path_regex", None)
        if inner is None or not hasattr(route, "app"):
            is_same = getattr(route, "endpoint", None) is endpoint
            if is_same and regex is not None and regex.match(path):
                return str(route.path)
            continue
        template = None
        if regex is None:
            # A Host route has no path.
            template = _template_of_endpoint(inner, path, endpoint)
        elif match := regex.match(path):
            rest = match.groupdict().get("path", "")
            template = _template_of_endpoint(inner, f"/{rest}", endpoint)
            if template is None and route.app is endpoint:
                template = ""
            template = None if template is None else f"{route.path}{template}"
        if template is not None:
            return template
    return None


def _template_of_mounts(routes: Iterable[Any], path: str) -> str | None:
    """Return the template of the mounts that lead to *path*, or None if there are none."""
    if not path:
        return ""
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner is None or not hasattr(route, "app"):
            continue
        if not hasattr(route, "path_regex"):
            # A Host route has no path.
            template = _template_of_mounts(inner, path)
            if template is not None:
                return template
            continue
        match = route.path_regex.match(path + "/")
        if match is None:
            continue
        rest = match.groupdict().get("path", "").rstrip("/")
        template = _template_of_mounts(inner, f"/{rest}" if rest else "")
        if template is not None:
            return f"{route.path}{template}"
    return None
