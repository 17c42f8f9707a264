"""nginx as the endpoint: it answers 204 and logs the sequence and the time of each webhook.

The query of the URL is logged as well, so that `?n=1` and `?n=2` are endpoints of their own. Two
other paths answer as endpoints that fail.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from bench.deliveries import Deliveries
from bench.server_process import HOST, ServerProcess, free_port, running

# An unsigned request is refused, so that its message stays owed and the case fails.
CONFIGURATION = Template("""\
daemon off;
worker_processes 1;
pid $folder/nginx.pid;
error_log $folder/nginx-error.log;
events { worker_connections 4096; }
http {
    client_body_temp_path $folder/nginx-body;
    proxy_temp_path $folder/nginx-proxy;
    fastcgi_temp_path $folder/nginx-fastcgi;
    uwsgi_temp_path $folder/nginx-uwsgi;
    scgi_temp_path $folder/nginx-scgi;
    keepalive_requests 100000000;
    keepalive_timeout 600;
    client_max_body_size 16m;
    access_log off;
    log_format delivery '$$http_ce_sequence$$is_args$$args $$msec';
    server {
        listen $host:$port;
        location = /ready { return 200; }
        location = /webhook {
            if ($$http_webhook_signature = "") { return 401; }
            access_log $folder/deliveries.log delivery buffer=64k flush=100ms;
            return 204;
        }
        location = /broken { return 500; }
        location = /unknown { return 404; }
    }
}
""")


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx and its log of deliveries."""

    process: ServerProcess
    log: "DeliveryLog"

    @property
    def endpoint(self) -> str:
        """Give the URL to subscribe."""
        return f"{self.process.url}/webhook"

    @property
    def broken(self) -> str:
        """Give the URL of an endpoint that is down: it answers 500."""
        return f"{self.process.url}/broken"

    @property
    def unknown(self) -> str:
        """Give the URL of an endpoint that is up and takes nothing: it answers 404."""
        return f"{self.process.url}/unknown"

    def received(self) -> int:
        """Count the webhooks that are logged: nginx holds back at most 100 ms of its log."""
        return self.log.count()

    def deliveries(self) -> Deliveries:
        """Read the whole log, as far as it is written."""
        return parse_deliveries(self.log.path.read_bytes())


@dataclass(slots=True)
class DeliveryLog:
    """nginx's log, of which only what is new is read to count it."""

    path: Path
    _read: int = field(default=0, init=False)
    _lines: int = field(default=0, init=False)

    def count(self) -> int:
        """Count the lines so far."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        self._lines += new.count(b"\n")
        return self._lines


def parse_deliveries(log: bytes) -> Deliveries:
    """Count the lines `<sequence> <seconds>`; one cut short by a flush is left out."""
    lines = log[: log.rfind(b"\n") + 1].splitlines()
    if not lines:
        return Deliveries(0, 0, 0.0, 0.0)
    distinct = {line.partition(b" ")[0] for line in lines}
    first_at, last_at = (float(lines[end].partition(b" ")[2]) for end in (0, -1))
    return Deliveries(len(lines), len(lines) - len(distinct), first_at, last_at)


@contextmanager
def running_nginx(folder: Path) -> Iterator[Nginx]:
    """Start nginx as the endpoint of one case."""
    port = free_port()
    configuration = folder / "nginx.conf"
    values = {"folder": folder.absolute(), "host": HOST, "port": port}
    configuration.write_text(CONFIGURATION.substitute(values))
    command = ["nginx", "-e", str(folder / "nginx-error.log"), "-c", str(configuration.absolute())]
    server = running(command, port=port, ready_path="/ready", log=folder / "nginx.log")
    with server as process:
        yield Nginx(process, DeliveryLog(folder / "deliveries.log"))
