"""The page of a service, with others beside it in its process."""

from redismetrics.exposition.families import Family, SeriesState
from redismetrics.exposition.status_page import StatusSource, status_app
from redismetrics.model.definition import define


def source(name: str, problem: str = "", *notes: str) -> StatusSource:
    family = Family(f"{name}_passes", define(f"{name}_passes", "counter"), [SeriesState({}, 0, 2)])
    return StatusSource(name, lambda: [family], lambda: problem, lambda: list(notes))


def get(path: str, one: StatusSource, *beside: StatusSource) -> tuple[str, list[str]]:
    answers: list[str] = []
    app = status_app(one, beside)
    body = b"".join(app({"PATH_INFO": path}, lambda status, _: answers.append(status)))
    return answers[0], body.decode().splitlines()


def test_failures_of_other_services_are_named_and_do_not_make_it_unhealthy() -> None:
    worker = source("worker")
    assert get("/healthz", worker) == ("200 OK", ["ok"])
    assert get("/healthz", worker, source("push")) == ("200 OK", ["ok"])
    others = source("archive", "refused"), source("push", "", "a: gone", "b: gone")
    assert get("/healthz", worker, *others) == (
        "200 OK",
        ["ok", "archive: refused", "push: a: gone", "push: b: gone"],
    )


def test_a_service_with_a_problem_is_unhealthy() -> None:
    status, lines = get("/healthz", source("push", "no Redis", "a: gone"), source("archive"))
    assert (status, lines) == ("503 Service Unavailable", ["no Redis", "a: gone"])


def test_the_page_has_the_metrics_of_all() -> None:
    status, lines = get("/metrics", source("worker"), source("archive"))
    assert status == "200 OK"
    assert [line for line in lines if line[0] != "#"] == [
        "archive_passes_total 2",
        "worker_passes_total 2",
    ]
    assert get("/", source("worker"))[0] == "404 Not Found"
