"""Templates of labels and annotations; what is expected is what Go and Prometheus print."""

import threading

import pytest

from redismetrics.alerts.templates.alert_text import AlertText, check
from tests.fixtures.servers import PATIENCE

LABELS = {"job": "api server", "instance": "web-1.example.com:9090"}


def expand(template: str, value: float = 1234.5678) -> str:
    def query(expression: str) -> list[tuple[dict[str, str], float]]:
        if expression == "none":
            return []
        return [({"zone": "b"}, 2.5), ({"zone": "a"}, 7.0)]

    return AlertText(
        "High",
        LABELS,
        value,
        query=query,
        now_s=1_700_000_000.0,
        external_labels={"cluster": "eu"},
        external_url="http://metrics.example/path",
    ).expand(template)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{ $labels.job }}: {{ $value }}", "api server: 1234.5678"),
        ("{{ .Labels.job }}{{ .Value }}", "api server1234.5678"),
        ("{{ $labels.missing }}|", "|"),
        ("{{ $externalLabels.cluster }} {{ .ExternalLabels.cluster }}", "eu eu"),
        ("{{ $externalURL }} {{ externalURL }}{{ pathPrefix }}", None),
        ("a {{- ` b ` -}} c", "a b c"),
        ("a{{/* comment */}}b {{- /* trims */ -}} c", "abc"),
        ("{{ 1 }} {{ 1.5 }} {{ 0x10 }} {{ 1e3 }} {{ true }} {{ 'a' }}", "1 1.5 16 1000 true 97"),
        ("{{ if gt $value 50.0 }}big{{ else }}small{{ end }}", "big"),
        ("{{ if lt $value 50.0 }}small{{ else if eq 1 2 }}b{{ else }}c{{ end }}", "c"),
        (
            "{{ with $labels.job }}<{{ . }}>{{ end }}{{ with $labels.no }}x{{ else }}y{{ end }}",
            None,
        ),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", None),
        ("{{ range query `none` }}x{{ else }}nothing{{ end }}", "nothing"),
        ('{{ range query "m" }}{{ .Labels.zone }}={{ .Value }} {{ end }}', "b=2.5 a=7 "),
        ('{{ range query "m" | sortByLabel "zone" }}{{ .Labels.zone }}{{ end }}', "ab"),
        ('{{ query "m" | first | value }} {{ query "m" | first | label "zone" }}', "2.5 b"),
        ('{{ (query "m" | first).Labels.zone }}', "b"),
        ("{{ range $i, $e := args 1 2 }}{{ $i }}{{ $e }}{{ end }}", "arg01arg12"),
        ('{{ range query "m" }}{{ .Value }}{{ break }}{{ end }}', "2.5"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}", "1"),
        ('{{ define "t" }}[{{ . }}]{{ end }}{{ template "t" $labels.job }}', "[api server]"),
        ('{{ block "t" 1 }}<{{ . }}>{{ end }}', "<1>"),
        ("{{ and 1 0 }} {{ or 0 `x` }} {{ not 0 }} {{ and true 3 }}", "0 x true 3"),
        ("{{ eq 1 2 1 }} {{ ne `a` `b` }} {{ le 1 1 }} {{ ge 1.5 2.5 }}", "true true true false"),
        ("{{ len `häuser` }} {{ len $labels }}", "7 2"),
        ("{{ index $labels `job` }} {{ slice `abcdef` 1 3 }}", "api server bc"),
        ("{{ print 1 2 `a` 3 }}|{{ println `x` 1 }}", "1 2a3|x 1\n"),
        ('{{ printf "%d %5.1f %-4s| %q %v %t %x" 7 2.25 "ab" "c" 1.5 true 255 }}', None),
        ('{{ printf "%d" 1.5 }} {{ printf "%s" }} {{ printf "%%" }}', None),
        ('{{ printf "%.2f" $value }}', "1234.57"),
        ("{{ $labels }}", "map[instance:web-1.example.com:9090 job:api server]"),
        ("{{ humanize $value }} {{ humanize 0.0001234 }} {{ humanize 0 }}", "1.235k 123.4u 0"),
        ("{{ humanize1024 2048.0 }} {{ humanize1024 -1048576 }} {{ humanize1024 1 }}", None),
        ("{{ humanizeDuration 3661 }} {{ humanizeDuration 0.0025 }}", "1h 1m 1s 2.5ms"),
        ("{{ humanizeDuration -90061 }} {{ humanizeDuration 5.5 }}", "-1d 1h 1m 1s 5.5s"),
        ("{{ humanizePercentage 0.1234567 }}", "12.35%"),
        ("{{ humanizeTimestamp 1435065584.128 }}", "2015-06-23 13:19:44.128 +0000 UTC"),
        ("{{ `some words_here` | title }} {{ toUpper `a` }} {{ toLower `B` }}", None),
        ("{{ reReplaceAll `([a-z]+)-(\\d)` `$2/${1}` `web-1` }}", "1/web"),
        ("{{ match `^web` $labels.instance }}", "true"),
        ("{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}", None),
        ("{{ parseDuration `1h30m` }}", "5400"),
        ("{{ graphLink `up > 1` }} {{ tableLink `up` }}", None),
        (
            "{{ 100000000000000000000.0 }} {{ 1e21 }} {{ 0.00001 }}",
            "100000000000000000000 1e+21 1e-05",
        ),
        ("{{ $labels.job | reReplaceAll ` ` `_` | toUpper }}", "API_SERVER"),
        ("{{ now | toTime }}", "2023-11-14 22:13:20 +0000 UTC"),
    ],
)
def test_expansion(template: str, expected: str | None) -> None:
    longer = {
        "{{ $externalURL }} {{ externalURL }}{{ pathPrefix }}": (
            "http://metrics.example/path http://metrics.example/path/path"
        ),
        "{{ with $labels.job }}<{{ . }}>{{ end }}{{ with $labels.no }}x{{ else }}y{{ end }}": (
            "<api server>y"
        ),
        "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}": (
            "instance=web-1.example.com:9090;job=api server;"
        ),
        '{{ printf "%d %5.1f %-4s| %q %v %t %x" 7 2.25 "ab" "c" 1.5 true 255 }}': (
            '7   2.2 ab  | "c" 1.5 true ff'
        ),
        '{{ printf "%d" 1.5 }} {{ printf "%s" }} {{ printf "%%" }}': (
            "%!d(float64=1.5) %!s(MISSING) %"
        ),
        "{{ humanize1024 2048.0 }} {{ humanize1024 -1048576 }} {{ humanize1024 1 }}": "2ki -1Mi 1",
        "{{ `some words_here` | title }} {{ toUpper `a` }} {{ toLower `B` }}": (
            "Some Words_here A b"
        ),
        "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}": (
            "web-1.example.com web-1:9090"
        ),
        "{{ graphLink `up > 1` }} {{ tableLink `up` }}": (
            "/graph?g0.expr=up+%3E+1&g0.tab=0 /graph?g0.expr=up&g0.tab=1"
        ),
    }
    assert expand(template) == (longer[template] if expected is None else expected)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_values_that_are_not_numbers(value: float) -> None:
    name = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[str(value)]
    assert expand("{{ $value }} {{ humanize $value }} {{ humanizeDuration $value }}", value) == (
        f"{name} {name} {name}"
    )


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ if gt $value 50 }}x{{ end }}", "incompatible types for comparison"),
        ("{{ .Nope }}", "can't evaluate field Nope"),
        ('{{ query "none" | first | value }}', "first() called on vector with no elements"),
        ("{{ title $value }}", "expected string; got float64"),
        ("{{ humanize `x` }}", "invalid syntax"),
        ('{{ template "nosuch" }}', "not defined"),
        ("{{ index `abc` 7 }}", "out of range"),
        ("{{ reReplaceAll `(` `` `` }}", "error parsing regexp"),
        ("{{ humanize }}", "wrong number of args"),
    ],
)
def test_a_failing_template_becomes_text_that_says_why(template: str, problem: str) -> None:
    text = expand(template)
    assert text.startswith("<error expanding template: error executing template __alert_High: ")
    assert problem in text


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ nosuch }}", 'function "nosuch" not defined'),
        ("{{ $valu }}", 'undefined variable "$valu"'),
        ("{{ if true }}", "{{end}} is missing"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ if true }}{{ else }}{{ else }}{{ end }}", "found {{else}}"),
        ("{{ if }}x{{ end }}", "missing value for if"),
        ("{{ $value", "unclosed action"),
        ('{{ "a }}', "unterminated quoted string"),
        ("{{/* x", "unclosed comment"),
        ("{{ 1 | 2 }}", "non executable command in pipeline stage 2"),
        ("{{ break }}", "outside {{range}}"),
        ("{{ range $x := $labels }}{{ end }}{{ $x }}", 'undefined variable "$x"'),
    ],
)
def test_invalid_templates_are_rejected(template: str, problem: str) -> None:
    with pytest.raises(ValueError, match="template: __alert_High:1: ") as raised:
        check(template, "High")
    assert problem in str(raised.value)


def test_errors_name_the_line() -> None:
    with pytest.raises(ValueError, match=r"^template: __alert_A:3: function"):
        check("one\ntwo\n{{ nosuch }}", "A")


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "{{ if true }}" * 10_000,
        "{{" + "(" * 100_000,
        "{{ range 1000000000 }}x{{ end }}",
        "{{ range 30000 }}{{ range 30000 }}{{ end }}{{ end }}",
        '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}',
        "{{ printf `%999999999d` 1 }}" + "{{ printf `%999d` 1 }}" * 1000,
    ],
)
def test_hostile_templates_are_bounded_in_time_and_output(template: str) -> None:
    text: list[str] = []
    # In a thread, whose stack is smaller.
    thread = threading.Thread(target=lambda: text.append(expand(template)))
    thread.start()
    thread.join(PATIENCE)
    assert text
    assert len(text[0]) < 100_000
