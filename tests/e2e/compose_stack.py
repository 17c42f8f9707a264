"""The stack as containers: docker-compose.yml, under a project name of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import docker
from docker.models.containers import Container

from e2e.stack import DEFAULTS, ROOT, Service, wait_until_ready
from support.broker_process import free_port
from support.eventually import eventually

COMPOSE = ("docker", "compose")
COMMAND_S = 540.0


class NoEngine(Exception):
    """No Docker engine answers here, or there is no compose to talk to it."""


def connect() -> docker.DockerClient:
    """Reach the engine. Raises NoEngine."""
    check_runs("docker", "version")  # the library would leave a socket open where nobody answers
    check_runs(*COMPOSE, "version")
    return docker.from_env()


def check_runs(*command: str) -> None:
    """Run a command that must succeed. Raises NoEngine with what it said."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise NoEngine("there is no docker command") from error
    if ran.returncode != 0:
        raise NoEngine(f"{' '.join(command)}: {ran.stderr.strip()}")


class ComposeStack:
    """A `Stack` of containers; containers, network, volumes and images are its project's own."""

    name = "compose"

    def __init__(
        self, engine: docker.DockerClient, files: Sequence[str] = (), **settings: str
    ) -> None:
        ports = {service: free_port() for service in Service}
        self.urls: Mapping[Service, str] = {
            service: f"http://127.0.0.1:{port}" for service, port in ports.items()
        }
        self.grpc_port = free_port()
        self._engine = engine
        self._project = f"e2e-{uuid4().hex[:8]}"
        self._command = (
            *(*COMPOSE, "--ansi=never"),
            *("--project-name", self._project),
            *("--env-file", os.devnull),
            *(f"--file={file}" for file in files),
        )
        self._environment = {
            **os.environ,
            **DEFAULTS,
            **{service.port_variable: str(port) for service, port in ports.items()},
            "BROKER_GRPC_PORT": str(self.grpc_port),
            **settings,
        }

    def build(self) -> None:
        """Build the images."""
        self._compose("build")

    def start(self) -> None:
        """Start what does not run, and wait until all are healthy."""
        self._compose("up", "--detach", "--wait", "--no-build")

    def stop(self) -> None:
        """Take the containers down; the volumes stay."""
        self._compose("down")

    def close(self) -> None:
        """Remove the project's containers, network, volumes and images."""
        self._compose("down", "--volumes", "--rmi", "local", "--timeout", "1")

    def kill(self, service: Service) -> None:
        """Kill -9 all processes of a container, as soon as it has some; return once it is dead.

        From inside: what the engine's own `kill` has killed, it takes for stopped on purpose and
        does not start again.
        """
        before = eventually(lambda: self._running(service))
        before.exec_run(["sh", "-c", "kill -9 -1"])
        eventually(lambda: _started_at(self.container(service)) != _started_at(before))

    def restart(self, service: Service, **settings: str) -> None:
        """Stop a service in good order, and start it with other settings until further notice."""
        if settings:
            self._environment |= settings
            self._compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
        else:
            self._compose("restart", service)
        wait_until_ready(self, service)

    def logs(self, service: Service) -> str:
        """What a service has printed in its present container."""
        output: bytes = self.container(service).logs()
        return output.decode(errors="replace")

    @contextmanager
    def following(self, service: Service, output: Path) -> Iterator[None]:
        """Run `docker compose logs --follow` for a service, into a file."""
        with (
            output.open("wb") as file,
            subprocess.Popen(
                [*self._command, "logs", "--follow", service],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            ) as follower,
        ):
            try:
                yield
                assert follower.poll() is None, "it followed no longer"
            finally:
                follower.kill()

    def container(self, service: Service) -> Container:
        """Find a service's container, as the engine shows it now."""
        (container,) = self.containers(service)
        return container

    def containers(self, service: str) -> Sequence[Container]:
        """Find all of a service's containers, as the engine shows them now."""
        labels = [
            f"com.docker.compose.project={self._project}",
            f"com.docker.compose.service={service}",
        ]
        found: Sequence[Container] = self._engine.containers.list(
            all=True, filters={"label": labels}
        )
        return found

    def _running(self, service: Service) -> Container | None:
        container = self.container(service)
        return container if container.status == "running" else None

    def _compose(self, *arguments: str) -> None:
        """Run a compose command. Raises AssertionError with all it said if it fails."""
        ran = subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        said = f"{ran.stdout}\n{ran.stderr}"
        assert ran.returncode == 0, f"docker compose {' '.join(arguments)}:\n{said}"


def _started_at(container: Container) -> str:
    return str(container.attrs["State"]["StartedAt"])
