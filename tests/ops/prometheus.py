"""A Prometheus of one's own, with the project's configuration and a broker to scrape."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from support.broker_process import ROOT, free_port
from support.eventually import eventually

FOLDER = ROOT / "ops" / "prometheus"
STOP_S = 30.0


class NoPrometheus(Exception):
    """There is none on this machine."""


def program(name: str) -> str:
    """Find a program of Prometheus'. Raises NoPrometheus."""
    found = shutil.which(name)
    if found is None:
        raise NoPrometheus(f"there is no {name}; the package prometheus has it")
    return found


class Prometheus:
    """One that runs, asked over HTTP."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._url = url
        self._http = http

    def ask(self, path: str, **params: str) -> Any:
        """Return an answer's data."""
        answer = self._http.get(f"{self._url}/api/v1/{path}", params=params)
        shown = answer.json()
        assert shown["status"] == "success", f"{params}: {shown}"
        return shown["data"]

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """Evaluate an expression now: its series."""
        result: list[Mapping[str, Any]] = self.ask("query", query=expression)["result"]
        return result


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[Prometheus]:
    """Run one on the project's configuration that scrapes `target` instead, and often."""
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    shutil.copy(FOLDER / "alerts.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(trust_env=False) as http:
            running = Prometheus(f"http://127.0.0.1:{port}", http)
            eventually(lambda: _ready(http, port), within_s=60)
            yield running
    finally:
        process.terminate()
        process.wait(STOP_S)


def _ready(http: httpx.Client, port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
    except httpx.TransportError:
        return False
