"""Three brokers on three NATS servers, each with a line of its own to them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from threading import Event

import httpx

from audit.cluster_faults import FOLLOWER, LEADER, OWNER, STANDBY, strikes
from audit.cluster_storm import ClusterStorm
from audit.copies import differing
from audit.fault_log import FaultLog
from audit.faults import Fault, Kind
from audit.figures import Figures
from audit.pulse import Pulse
from audit.slow_disk import SYNCS, WRITES, refusal, slow_disk
from audit.victim import Sufferer, Victim
from audit.webhooks import Webhooks
from broker.nats_address import parse_address
from e2e.process_stack import BIN, KEPT_VARIABLES
from e2e.supervised import Supervised
from support.broker_process import free_port
from support.command import run_broker
from support.eventually import eventually
from support.nats_server import NatsCluster, NatsServer
from support.tcp_line import Line

NODES = 3
NAME = "audit"
READY_S = 60.0
ANSWER_S = 2.0
LOOK_S = 2.0


class Node:
    """One broker: supervised, and connected to the NATS servers by a line that can be cut."""

    def __init__(self, name: str, folder: Path, servers: Sequence[NatsServer]) -> None:
        self.name = name
        self.base_url = f"http://127.0.0.1:{(port := free_port())}"
        self.copy = folder / name / "replica.db"
        self._line = Line([server.port for server in servers])
        addresses = ",".join(f"127.0.0.1:{each}" for each in self._line.ports)
        self._environment = {
            **{each: os.environ[each] for each in KEPT_VARIABLES if each in os.environ},
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "BROKER_STORE": f"nats://{addresses}/{NAME}",
            "BROKER_REPLICA": str(folder / name),
            "BROKER_NODE_URL": self.base_url,
            "BROKER_PUBLIC_URL": self.base_url,
            "BROKER_HOST": "127.0.0.1",
            "BROKER_PORT": str(port),
            "BROKER_GRPC_PORT": str(free_port()),
            "BROKER_ALLOWED_TARGETS": "127.0.0.0/8",
        }
        self._supervised = Supervised(name, "exec broker serve", folder / f"{name}.log")
        self._victim = Victim(self._supervised, self._environment)

    def __str__(self) -> str:
        return self.name

    def start(self) -> None:
        """Start it and do not wait."""
        self._supervised.start(self._environment)

    def stop(self) -> None:
        """Stop it in good order. Raises TimeoutError."""
        self._supervised.stop()

    def close(self) -> None:
        """Leave nothing of it behind."""
        self._supervised.close()
        self._line.close()

    def status(self) -> str | None:
        """Return `ready` for the owner, `standby`, or None for one that is neither."""
        try:
            url = f"{self.base_url}/readyz"
            answer = httpx.get(url, trust_env=False, timeout=LOOK_S)
        except httpx.TransportError:
            return None
        return str(answer.json()["status"]) if answer.status_code == 200 else None

    def suffer(self, fault: Fault, hurry: Event) -> None:
        """Do it, all of it; what lasts is cut short by `hurry`."""
        match fault.kind:
            case Kind.CUT_OFF:
                self._line.cut()
            case Kind.STALL:
                self._line.hold()
            case Kind.DEAFEN:
                self._line.hold(answers_only=True)
            case Kind.SLOW_DISK:
                self._slow_down_disk(fault, hurry)
                return
            case _:
                self._victim.suffer(fault, hurry)
                return
        try:
            hurry.wait(fault.for_s)
        finally:
            self._line.mend()

    def _slow_down_disk(self, fault: Fault, hurry: Event) -> None:
        # Once it has processes: those of a broker that lost its store are new.
        members = eventually(self._supervised.members)
        with slow_disk([each.pid for each in members], SYNCS, fault.late_s):
            hurry.wait(fault.for_s)


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

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._random = Random(f"{seed}/cast")
        self._nats = NatsCluster(folder / "nats")
        self._nodes = [Node(f"node-{n}", folder, self._nats.servers) for n in range(1, NODES + 1)]
        self._stream = parse_address(f"nats://x/{NAME}").stream

    @property
    def broker_urls(self) -> Sequence[str]:
        return [node.base_url for node in self._nodes]

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
        """Say whether every server has caught up, one broker owns the store, the others follow."""
        if not all(server.is_ready() for server in self._nats.servers):
            return False
        found = sorted(f"{node.status()}" for node in self._nodes)
        return found == ["ready", *["standby"] * (NODES - 1)]

    def storm(
        self, seconds: float, webhooks: Webhooks, pulse: Pulse, log: FaultLog
    ) -> AbstractContextManager[object]:
        without: list[Kind] = []
        if (why := refusal()) is not None:
            log.remark(f"No disk was slow: {why}.")
            without.append(Kind.SLOW_DISK)
        planned = strikes(self._seed, without)
        return ClusterStorm(planned, self._cast, self._is_well, pulse, log)

    def _cast(self, roles: Sequence[str]) -> Mapping[str, Sufferer]:
        """Find out who has which role at the moment. Raises AssertionError."""
        owner = eventually(
            lambda: next((node for node in self._nodes if node.status() == "ready"), None),
            within_s=READY_S,
        )
        leader = self._nats.leader(self._stream)
        standbys = [node for node in self._nodes if node is not owner]
        followers = [server for server in self._nats.servers if server is not leader]
        found: Mapping[str, Sufferer] = {
            OWNER: owner,
            STANDBY: self._random.choice(standbys),
            LEADER: Server(leader),
            FOLLOWER: Server(self._random.choice(followers)),
        }
        return {role: found[role] for role in roles}

    def progress(self) -> str:
        return ""

    def recover(self, log: FaultLog) -> None:
        eventually(self._is_well, within_s=READY_S)

    def figures(self, log: FaultLog) -> Sequence[Figures]:
        """Count nothing more, but compare the copies while nothing changes them."""
        copies = [node.copy for node in self._nodes]
        try:
            eventually(lambda: not differing(copies), within_s=READY_S)
        except AssertionError:
            log.surprise(f"the brokers' copies differ: {differing(copies)}")
        return []

    def check(self, log: FaultLog) -> None:
        """Stop the brokers in good order, and have their own check look at every copy."""
        for node in self._nodes:
            try:
                node.stop()
            except TimeoutError as error:
                log.surprise(f"{error}")
            found = run_broker("check", node.copy)
            if found.returncode != 0:
                log.surprise(f"broker check of {node}: {found.stdout}{found.stderr}")
