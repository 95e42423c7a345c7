"""Pages of several processes."""

import pytest

from redismetrics import Metrics
from tests.fixtures.programs import Programs, parse_page
from tests.fixtures.servers import PROCESS_PATIENCE

pytestmark = pytest.mark.slow


def test_counters_histograms_and_summaries_add_up_over_processes(programs: Programs) -> None:
    code = """
        from prometheus_client import Counter, Histogram, Summary
        Counter("jobs", "Jobs", ["queue"]).labels("mail").inc(2.5)
        Histogram("wait_seconds", "Wait", buckets=(1, 5)).observe(3)
        Summary("size_bytes", "Size", unit="bytes").observe(7)
    """
    programs(code)
    programs(code)
    assert programs.page() == {
        'jobs_total{queue="mail"}': 5,
        'wait_seconds_bucket{le="1.0"}': 0,
        'wait_seconds_bucket{le="5.0"}': 2,
        'wait_seconds_bucket{le="+Inf"}': 2,
        "wait_seconds_count": 2,
        "wait_seconds_sum": 6,
        "size_bytes_count": 2,
        "size_bytes_sum": 14,
    }


def test_the_default_registry_shows_all_processes_and_others_this_one(programs: Programs) -> None:
    code = """
        from prometheus_client import CollectorRegistry, Counter, REGISTRY, generate_latest
        shared = Counter("shared", "In the default registry")
        shared.inc()
        private = CollectorRegistry()
        Counter("private", "In another", registry=private).inc()
        print(REGISTRY.get_sample_value("shared_total"), shared._value.get(),
              shared.collect()[0].samples[0].value, private.get_sample_value("private_total"),
              REGISTRY.get_sample_value("private_total"))
    """
    assert programs(code).split() == ["1.0", "1.0", "1.0", "1.0", "None"]
    assert programs(code).split() == ["2.0", "1.0", "1.0", "1.0", "None"]
    assert programs.page() == {"shared_total": 2, "private_total": 2}


def test_each_sample_is_on_a_page_once_whatever_is_registered(programs: Programs) -> None:
    programs("""
        from prometheus_client import Counter
        Counter("jobs", "Jobs").inc(3)
    """)
    page = parse_page(
        programs("""
            from prometheus_client import REGISTRY, Counter, generate_latest, multiprocess
            from prometheus_client.core import GaugeMetricFamily
            class Queue:
                def collect(self):
                    yield GaugeMetricFamily("waiting", "Custom", 4)
            Counter("jobs", "Jobs").inc()
            REGISTRY.register(Queue())
            multiprocess.MultiProcessCollector(REGISTRY)
            print(generate_latest().decode())
        """)
    )
    shown = {name: value for name, value in page.items() if not name.startswith(("pro", "pyt"))}
    assert shown == {"waiting": 4, "jobs_total": 4}


def test_metrics_without_counts_are_on_the_page_at_zero(programs: Programs) -> None:
    code = """
        from prometheus_client import Counter, Histogram, REGISTRY, Summary
        Counter("jobs", "Jobs")
        Counter("errors", "Errors", ["kind"]).labels("timeout")
        Histogram("wait", "Wait", ["queue"], buckets=[1]).labels("mail")
        Summary("size", "Size")
        value = REGISTRY.get_sample_value
        print(value("jobs_total"), value("errors_total", {"kind": "timeout"}),
              value("wait_bucket", {"queue": "mail", "le": "1.0"}), value("size_count"))
    """
    assert programs(code).split() == ["0.0"] * 4
    page = programs.page()
    assert page["jobs_total"] == page['errors_total{kind="timeout"}'] == 0
    programs("""
        from prometheus_client import Counter, Histogram
        Counter("jobs", "Jobs").inc()
        Histogram("wait", "Wait", ["queue"], buckets=[1]).labels("mail").observe(2)
    """)
    assert programs(code).split() == ["1.0", "0.0", "0.0", "0.0"]


def test_a_page_of_some_names_has_only_these(programs: Programs) -> None:
    out = programs("""
        from prometheus_client import Counter, REGISTRY, generate_latest
        Counter("jobs", "Jobs").inc()
        Counter("other", "Other").inc()
        print(generate_latest(REGISTRY.restricted_registry(["jobs_total"])).decode())
    """)
    assert parse_page(out) == {"jobs_total": 1}


@pytest.mark.parametrize("labels", [40, 70])
def test_any_label_is_kept_as_it_is(programs: Programs, labels: int) -> None:
    out = programs(
        """
        import sys
        from prometheus_client import Counter, REGISTRY
        names = ["größe", "a b", "U__x", *(f"l{n}" for n in range(int(sys.argv[1])))]
        values = ["\\0\\n\\"日本", "", "é" * 1500, *("v" * 20 for _ in names[3:])]
        jobs = Counter("jöbs", "Jobs", names)
        jobs.labels(*values).inc(3)
        print(REGISTRY.get_sample_value("jöbs_total", dict(zip(names, values))))
        jobs.labels(*["y" * 5000, "\\ud800", *values[2:]]).inc(4)
        found = [s for m in REGISTRY.collect() for s in m.samples if s.name == "jöbs_total"]
        print(sorted(s.value for s in found), sorted(len(s.labels["größe"]) for s in found))
        """,
        str(labels),
    )
    assert out.splitlines() == ["3.0", "[3.0, 4.0] [5, 4096]"]


def test_numbers_that_are_not_finite_raise_nothing(programs: Programs) -> None:
    out = programs("""
        from math import inf, nan
        from prometheus_client import Counter, Gauge, Histogram, REGISTRY
        wide = Histogram("wide", "Bounds", buckets=[*range(1, 401), inf])
        for value in (nan, inf, 3, -inf, True):
            wide.observe(value)
        jobs = Counter("jobs", "Jobs")
        for value in (nan, inf, 2):
            jobs.inc(value)
        level = Gauge("level", "Level", multiprocess_mode="mostrecent")
        level.set(inf)
        value = REGISTRY.get_sample_value
        print(value("wide_count"), value("wide_bucket", {"le": "400.0"}), value("jobs_total"),
              value("level"), len([s for m in REGISTRY.collect() for s in m.samples
                                   if s.name == "wide_bucket"]))
        level.set(nan)
    """)
    assert out.split() == ["4.0", "3.0", "inf", "inf", "401"]


def test_a_type_that_changes_loses_no_count(programs: Programs, metrics: Metrics) -> None:
    programs("""
        from prometheus_client import Histogram
        Histogram("work", "Work", buckets=[1, 2]).observe(1)
    """)
    process = programs.start("""
        from prometheus_client import Gauge, REGISTRY, Summary
        Summary("work", "Work").observe(5)
        value = REGISTRY.get_sample_value
        print(value("work_count"), value("work:histogram_count"))
    """)
    out, err = process.communicate(timeout=PROCESS_PATIENCE)
    assert out.split() == ["1.0", "1.0"], err
    assert err.count("work") == 2, err
    assert programs.page() == {
        'work_bucket{le="1.0"}': 1,
        'work_bucket{le="2.0"}': 1,
        'work_bucket{le="+Inf"}': 1,
        "work_count": 1,
        "work_sum": 1,
        "work:summary_count": 1,
        "work:summary_sum": 5,
    }


def test_labels_and_buckets_that_change_lose_no_count(programs: Programs) -> None:
    programs("""
        from prometheus_client import Counter, Histogram
        Counter("jobs", "Jobs").inc()
        Histogram("wait", "Wait", buckets=[1, 2]).observe(1)
    """)
    programs("""
        from prometheus_client import Counter, Histogram
        Counter("jobs", "All jobs", ["queue"]).labels("a").inc(2)
        Histogram("wait", "Wait", buckets=[1, 3]).observe(2.5)
    """)
    page = programs.page()
    assert (page["jobs_total"], page['jobs_total{queue="a"}']) == (1, 2)
    assert (page['wait_bucket{le="2.0"}'], page["wait_count"], page["wait_sum"]) == (1, 2, 3.5)


def test_two_metrics_of_a_process_with_one_name_and_two_types(programs: Programs) -> None:
    programs("""
        from prometheus_client import CollectorRegistry, Histogram, Summary
        Summary("work", "Work", registry=CollectorRegistry()).observe(5)
        Histogram("work", "Work", buckets=[1]).observe(1)
    """)
    page = programs.page()
    assert (page["work_sum"], page["work:histogram_sum"]) == (5, 1)


def test_metrics_of_one_push_can_stay_local(programs: Programs) -> None:
    programs("""
        from prometheus_client import CollectorRegistry, Counter, Gauge, REGISTRY
        from redismetrics.compat.prometheus_client import local_metrics
        with local_metrics():
            registry = CollectorRegistry()
            Gauge("last_success", "Time", registry=registry).set(5)
            Counter("pushes", "In the default registry").inc()
        assert registry.get_sample_value("last_success") == 5
        assert REGISTRY.get_sample_value("pushes_total") == 1
        Counter("jobs", "Jobs").inc()
    """)
    assert programs.page() == {"jobs_total": 1}
