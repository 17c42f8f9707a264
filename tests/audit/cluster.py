"""Three brokers on three NATS servers, which share a store of one cell or of several."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from sqlite3 import OperationalError
from threading import Event

from audit.cluster_faults import FOLLOWER, LEADER, OWNER, STANDBY, strikes
from audit.cluster_storm import ClusterStorm, Part
from audit.copies import differing, place, same
from audit.fault_log import FaultLog
from audit.faults import Fault, Kind
from audit.figures import Figures
from audit.node import Node
from audit.pulse import Pulse
from audit.slow_disk import WRITES, refusal, slow_disk
from audit.subscriptions import topics_of
from audit.webhooks import Webhooks
from broker.nats_address import parse_address
from support.command import run_broker
from support.eventually import eventually
from support.nats_server import NatsCluster, NatsServer

NODES = 3
NAME = "audit"
READY_S = 60.0
FOLLOW_S = 1.0
ANSWER_S = 2.0


def evenly_shared(found: Sequence[Collection[int] | None], cells: Sequence[int]) -> bool:
    """Say whether each cell has one owner, and no broker has two more than another.

    A broker that is not ready has None.
    """
    owned = [each for each in found if each is not None]
    counts = [len(each) for each in owned]
    return (
        len(owned) == len(found)
        and sorted(chain(*owned)) == list(cells)
        and max(counts) - min(counts) <= 1
    )


class Server:
    """One NATS server, and what can be done to it."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server

    def __str__(self) -> str:
        return self._server.name

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Do it, all of it; what lasts is cut short by `hurry`."""
        match fault.kind:
            case Kind.KILL:
                self._server.kill()
                hurry.wait(fault.for_s)
                self._server.launch()
            case Kind.PAUSE:
                self._server.freeze()
                try:
                    hurry.wait(fault.for_s)
                finally:
                    self._server.thaw()
            case Kind.SLOW_DISK:
                with slow_disk([self._server.process.pid], WRITES, fault.late_s):
                    hurry.wait(fault.for_s)
            case _:
                raise ValueError(fault.kind)


class Cluster:
    """Implements audit.subject.Subject."""

    answer_s = ANSWER_S

    def __init__(self, seed: int, folder: Path, cells: int = 1) -> None:
        self._seed = seed
        self._random = Random(f"{seed}/cast")
        self._cells = range(cells)
        self._nats = NatsCluster(folder / "nats")
        self._nodes = [
            Node(f"node-{n}", folder, self._nats.servers, NAME, cells) for n in range(1, NODES + 1)
        ]
        address = parse_address(f"nats://x/{NAME}?cells={cells}")
        self._streams = [address.of(cell).stream for cell in self._cells]
        self._topics = topics_of(cells)

    @property
    def broker_urls(self) -> Sequence[str]:
        return [node.base_url for node in self._nodes]

    @property
    def topics(self) -> Sequence[str]:
        return self._topics

    def start(self) -> None:
        self._nats.start()
        for node in self._nodes:
            node.start()
        eventually(self._is_well, within_s=READY_S)

    def close(self) -> None:
        for node in self._nodes:
            node.close()
        self._nats.close()

    def _is_well(self) -> bool:
        """Say whether every server has caught up, and the brokers share all cells and follow."""
        ready = all(server.is_ready() for server in self._nats.servers)
        if not ready or not evenly_shared([node.owned() for node in self._nodes], self._cells):
            return False
        return self._all_follow()

    def _all_follow(self) -> bool:
        """Say whether every copy comes to where the first one of its cell is now."""
        try:
            first = [max(places) for places in self._places()]
            eventually(
                lambda: all(
                    min(places) >= to for places, to in zip(self._places(), first, strict=True)
                ),
                within_s=FOLLOW_S,
            )
        except (AssertionError, OperationalError):
            return False
        return True

    def _places(self) -> list[list[int]]:
        return [[place(node.copies[cell]) for node in self._nodes] for cell in self._cells]

    def storm(
        self, seconds: float, webhooks: Webhooks, pulse: Pulse, log: FaultLog
    ) -> AbstractContextManager[object]:
        without: list[Kind] = []
        if (why := refusal()) is not None:
            log.remark(f"No disk was slow: {why}.")
            without.append(Kind.SLOW_DISK)
        planned = strikes(self._seed, without, shared=len(self._cells) > 1)
        return ClusterStorm(planned, self._cast, self._is_well, pulse, log)

    def _cast(self, roles: Sequence[str]) -> Mapping[str, Part]:
        """Find out who has which role at the moment, for some cell. Raises AssertionError."""
        owners: Sequence[Node] = eventually(self._owners, within_s=READY_S)
        leaders = [self._nats.leader(stream) for stream in self._streams]
        cell = self._random.choice(self._cells)
        standbys = [node for node in self._nodes if node is not owners[cell]]
        followers = [server for server in self._nats.servers if server is not leaders[cell]]
        brokers = {OWNER: owners[cell], STANDBY: self._random.choice(standbys)}
        servers = {LEADER: leaders[cell], FOLLOWER: self._random.choice(followers)}
        found = {
            **{
                role: Part(node, self._seen(node, owners, OWNER, STANDBY))
                for role, node in brokers.items()
            },
            **{
                role: Part(Server(server), self._seen(server, leaders, LEADER, FOLLOWER))
                for role, server in servers.items()
            },
        }
        return {role: found[role] for role in roles}

    def _owners(self) -> Sequence[Node]:
        """Return who owns each cell, none of them while that is not all known."""
        owner = {cell: node for node in self._nodes for cell in node.owned() or ()}
        return [owner[cell] for cell in self._cells] if len(owner) == len(self._cells) else []

    def _seen(
        self, who: object, firsts: Sequence[object], first: str, other: str
    ) -> Mapping[str, str]:
        """Say for each topic whether its cell's first one is meant, or another."""
        return {
            topic: first if who is of_cell else other
            for topic, of_cell in zip(self._topics, firsts, strict=True)
        }

    def progress(self) -> str:
        return ""

    def recover(self, log: FaultLog) -> None:
        eventually(self._is_well, within_s=READY_S)

    def figures(self, log: FaultLog) -> Sequence[Figures]:
        """Count nothing more, but compare the copies while nothing changes them."""
        for cell in self._cells:
            copies = [node.copies[cell] for node in self._nodes]
            try:
                eventually(partial(same, copies), within_s=READY_S)
            except AssertionError:
                log.surprise(f"the copies of cell {cell} differ: {differing(copies)}")
        return []

    def check(self, log: FaultLog) -> None:
        """Stop the brokers in good order, and have their own check look at every copy."""
        handed_over = sum(node.handed_over() for node in self._nodes)
        if len(self._cells) > 1:
            log.remark(f"{handed_over} times a broker handed a cell over.")
        for node in self._nodes:
            try:
                node.stop()
            except TimeoutError as error:
                log.surprise(f"{error}")
            for copy in node.copies:
                found = run_broker("check", copy)
                if found.returncode != 0:
                    log.surprise(f"broker check of {copy}: {found.stdout}{found.stderr}")
