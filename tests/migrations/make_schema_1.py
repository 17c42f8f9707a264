"""Make `schema_1.tar.xz`: a store that a broker of schema 1 was killed on, and what it last showed.

Run it once, with the broker of commit e7046c1, the last one to release schema 1:

    git archive e7046c1 broker | tar -x -C /tmp/old
    cd tests && PYTHONPATH=/tmp/old/broker ../.venv/bin/python -m migrations.make_schema_1
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
import tempfile
import time
from pathlib import Path

from support.api import SLOW_RETRY, Api, good
from support.broker_process import BrokerProcess, free_port
from support.cloudevent import Json, event
from support.endpoint import Answer, Endpoint, Received
from support.eventually import eventually
from support.signature import new_secret

ARCHIVE = Path(__file__).with_name("schema_1.tar.xz")
FOREVER_S = 10**9


def answer(request: Received) -> Answer:
    """Take most; refuse, fail or keep waiting what the key asks for."""
    return {
        "failing": Answer(503, body=b"down for the night"),
        "refused": Answer(422, body=b"no such customer"),
        "slow": Answer(delay_s=60),
    }.get(request.key or "", Answer())


def fill(api: Api, endpoint: Endpoint) -> None:
    """Leave something in every table, and rows in every state."""
    api.put_topic("orders", retention={"max_age_s": FOREVER_S}, dedup_window_s=FOREVER_S)
    api.put_topic("quiet", retention={"max_age_s": None, "max_messages": 10**6})
    subscribe(api, endpoint.url)

    keys = ["ada", "failing", None, "refused", "ada", "failing", "slow", None, "slow", "bob"]
    told = good(
        api.publish_batch(
            "orders",
            [
                event(
                    id=f"order-{n}",
                    source="/shop",
                    type="order.placed",
                    data={"n": n, "text": "größer 🎉"},
                    **({"partitionkey": key} if key else {}),
                )
                for n, key in enumerate(keys * 2)
            ],
        )
    )
    assert len(told["messages"]) == 20
    api.post("orders", b"\x00\xff\x10 bytes", {"content-type": "application/octet-stream"})
    api.post("orders", b"", {"ce-type": "order.closed", "ce-subject": "s", "ce-region": "no%20rth"})
    for n in range(5):
        api.ok_publish("quiet", n)


def subscribe(api: Api, url: str) -> None:
    """Create subscriptions of every ordering and format, with all they may have."""
    mail = {"endpoint": url, "retry": SLOW_RETRY, "timeout_s": 120}
    good(api.put_subscription("orders", "mail", **mail, secret=new_secret(1), headers={"X-A": "b"}))
    good(api.put_subscription("orders", "mail", secret=new_secret(2)))
    down = f"http://127.0.0.1:{free_port()}/"
    audit = {"endpoint": down, "ordering": "topic", "format": "batch", "max_batch": 7}
    good(api.put_subscription("orders", "audit", **audit, retry=SLOW_RETRY, secret=new_secret(3)))
    sloppy = {"endpoint": url, "ordering": "none", "format": "structured", "max_in_flight": 2}
    good(api.put_subscription("orders", "sloppy", **sloppy, retry=SLOW_RETRY, secret=new_secret(4)))
    good(api.put_subscription("quiet", "reader", start="beginning", secret=new_secret(5)))


def shown(api: Api) -> Json:
    """Ask for everything that the broker shows."""
    topics = api.http.get("/v1/topics").json()["topics"]
    names = [topic["name"] for topic in topics]
    return {
        "topics": topics,
        "messages": {name: list(api.all_messages(name)) for name in names},
        "subscriptions": {
            name: api.list_subscriptions(name).json()["subscriptions"] for name in names
        },
    }


def states(store: Path) -> dict[str, int]:
    """Count the rows by state."""
    connection = sqlite3.connect(store)
    try:
        return dict(connection.execute("SELECT state, count(*) FROM exception GROUP BY state"))
    finally:
        connection.close()


def main() -> None:
    """Run the broker, kill it, and pack what it leaves."""
    with tempfile.TemporaryDirectory() as name, Endpoint(answer) as endpoint:
        broker = BrokerProcess(Path(name))
        store = Path(name) / "broker.db"
        try:
            broker.start()
            fill(broker.api, endpoint)
            eventually(lambda: set(states(store)) == {"retry", "held", "leased", "dead"})
            time.sleep(1.0)  # nothing more changes from here on
            seen = {"made_at": time.time(), **shown(broker.api)}
            broker.kill()
        finally:
            broker.close()
        Path(name, "seen.json").write_text(json.dumps(seen, indent=1))
        with tarfile.open(ARCHIVE, "w:xz") as archive:
            for part in ("seen.json", "broker.db", "broker.db-wal"):
                archive.add(Path(name) / part, part, filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
