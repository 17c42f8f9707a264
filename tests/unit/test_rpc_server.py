"""What the gRPC server keeps of brokers that come and go in its process."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from broker.api.under_way import UnderWay, most_bytes
from broker.auth import Keys
from broker.config import Settings
from broker.rpc.generated import broker_pb2 as pb
from broker.rpc.port import RpcPort
from broker.rpc.server import RpcServer
from broker.service import Broker
from broker.serving import Serving
from contract.homes import SqliteHome
from support.broker_process import free_port

pytestmark = pytest.mark.anyio


class Call:
    """As much of a call as one that succeeds asks for."""

    def invocation_metadata(self) -> tuple[()]:
        """Bring no key."""
        return ()


async def test_broker_that_has_left_its_cell_is_kept_by_no_call(tmp_path: Path) -> None:
    home = SqliteHome(tmp_path)
    settings = Settings(host="127.0.0.1", grpc_port=free_port(), min_free_bytes=0)
    broker = Broker(await home.open(), settings)
    await broker.put_topic("t", {})
    here = {"t": Serving(broker=broker, leaves=True)}
    under_way, port = UnderWay(most_bytes(settings.max_batch_bytes)), RpcPort(settings)
    server = RpcServer(lambda _: here["t"], Keys(None, on=False), settings, under_way, port)
    call: Any = server.handlers()["GetTopic"].unary_unary
    assert (await call(pb.TopicRequest(topic="t"), Call()))["name"] == "t"

    kept = weakref.ref(broker)
    del broker
    here.clear()
    gc.collect()

    assert kept() is None
    await port.stop()
    await home.close()
