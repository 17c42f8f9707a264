"""Names that lead elsewhere from one question to the next: what is dialled is what is judged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.api import QUICK_RETRY
from support.broker_process import BrokerProcess
from support.dns_server import RunningDns, asking_it
from support.endpoint import Endpoint
from support.eventually import eventually

ALLOWED, FORBIDDEN = "127.0.0.2", "127.0.0.1"


def answers(name: str, times: int) -> Sequence[str]:
    """Lead to what may be reached, to what may not, to both, or now here and now there."""
    kind = name.partition(".")[0].rstrip("0123456789")
    return {
        "good": [ALLOWED],
        "bad": [FORBIDDEN],
        "both": [FORBIDDEN, ALLOWED],
        "turning": [ALLOWED] if times % 2 else [FORBIDDEN],
        "turned": [FORBIDDEN] if times % 2 else [ALLOWED],
    }.get(kind, [])


@pytest.fixture
def dns() -> Iterator[RunningDns]:
    """A DNS server; a laptop's user may not run one, CI does."""
    if os.geteuid() != 0 and os.environ.get("CI") != "true":
        pytest.skip("port 53 and a mount namespace are for root")
    with RunningDns(answers) as running:
        yield running


@pytest.fixture
def resolving(dns: RunningDns, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker that asks that server, and may reach one address of this machine."""
    folder = tmp_path / "broker"
    folder.mkdir()
    process = BrokerProcess(folder, BROKER_ALLOWED_TARGETS=f"{ALLOWED}/32")
    process.within = asking_it(tmp_path)
    yield process.start()
    process.close()
    print(process.log()[-20_000:])


def test_address_that_is_dialled_is_judged_whatever_the_name_led_to_before(
    resolving: BrokerProcess, dns: RunningDns
) -> None:
    with (
        Endpoint(host=FORBIDDEN) as forbidden,
        Endpoint(host=ALLOWED, port=forbidden.port) as allowed,
    ):
        kinds = ("good", "bad", "both", "turning", "turned")
        names = [f"{kind}{n}" for kind in kinds for n in range(4)]
        for name in names:
            url = f"http://{name}.rebinding.test:{forbidden.port}/{name}"
            resolving.api.ok_subscribe("t", url, name=name, retry=QUICK_RETRY)
        resolving.api.ok_publish("t", "a")

        def refused(name: str) -> bool:
            error = resolving.api.ok_status("t", name).get("last_error") or ""
            return f"{FORBIDDEN} is not an allowed target" in str(error)

        def reached(name: str) -> bool:
            return any(each.path == f"/{name}" for each in list(allowed.requests))

        for name in names:
            if name.startswith(("good", "both", "turning")):
                eventually(lambda name=name: reached(name))  # type: ignore[misc]
            else:
                eventually(lambda name=name: refused(name))  # type: ignore[misc]

        assert all(dns.names.asked[f"{name}.rebinding.test"] for name in names)
        assert forbidden.requests == []
