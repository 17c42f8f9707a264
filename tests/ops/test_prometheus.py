"""The alert rules and the dashboard ask for what the broker tells."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ops.prometheus import FOLDER, Prometheus, scraping
from support.api import SLOW_RETRY, Api, good
from support.broker_process import ROOT, StartBroker
from support.endpoint import Answer, Endpoint
from support.eventually import eventually

DASHBOARD = ROOT / "ops" / "grafana" / "dashboards" / "broker.json"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text())
TESTS = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())
PANELS = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_itself_finds_nothing_wrong(promtool: str, command: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire() -> None:
    fires = {
        case["alertname"]
        for test in TESTS["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fires == set(ALERTS)


def test_panels_lie_beside_one_another_and_have_names_of_their_own() -> None:
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in json.loads(DASHBOARD.read_text())["panels"]):
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


@pytest.fixture
def busy_broker(start_broker: StartBroker, endpoint: Endpoint) -> Api:
    """A broker of which every metric tells something."""
    endpoint.script = lambda request: Answer({"bad": 422, "later": 500}.get(str(request.key), 200))
    api = start_broker().api
    api.ok_subscribe("order", endpoint.url, retry=SLOW_RETRY)
    for _ in range(2):  # the second is a repeat
        good(api.publish("order", 1, id="1", source="/s"))
    good(api.publish("order", 1, deliverat="2100-01-01T00:00:00Z"))
    assert api.publish("order", 1, id="").status_code == 422
    for key in ("bad", "later", "good"):
        api.ok_publish("order", 1, key=key)
    eventually(lambda: api.ok_status("order")["dead_letters"] == 1)
    return api


@pytest.fixture
def prometheus(
    promtool: str, busy_broker: Api, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes that broker."""
    target = busy_broker.base_url.removeprefix("http://")
    with scraping(target, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def test_every_panel_and_alert_finds_what_the_broker_tells(
    prometheus: Prometheus, busy_broker: Api
) -> None:
    # A rate needs two scrapes.
    eventually(lambda: prometheus.query("count_over_time(broker_info[1m]) > 2"), within_s=60)
    told = set(prometheus.ask("label/__name__/values"))

    for expression in EXPRESSIONS:
        asked = expression.replace("$__rate_interval", "1m")
        asked = re.sub(r"\$(topic|subscription)\b", ".*", asked)
        assert prometheus.query(asked), f"no series: {expression}"

    for name, rule in ALERTS.items():
        prometheus.query(rule["expr"])
        assert metrics_of(rule["expr"]) <= told, name
    loaded = prometheus.ask("rules", type="alert")["groups"]
    assert {rule["name"] for group in loaded for rule in group["rules"]} == set(ALERTS)
    assert {rule["health"] for group in loaded for rule in group["rules"]} == {"ok"}

    busy_broker.ok_publish("order", 1, key="bad")
    eventually(lambda: firing(prometheus, "MessagesGivenUp"), within_s=60)


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that an expression names."""
    return set(re.findall(r"\b(?:broker|process)_[a-z_]+|\bup\b", expression))


def firing(prometheus: Prometheus, name: str) -> list[Any]:
    """Return the alerts of a name that fire."""
    alerts = prometheus.ask("alerts")["alerts"]
    return [a for a in alerts if a["labels"]["alertname"] == name and a["state"] == "firing"]
