"""nginx as the endpoint: it answers 204 and logs the sequence and the time of each webhook."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
    log_format delivery '$$http_ce_sequence $$msec';
    server {
        listen $host:$port;
        location = /ready { return 200; }
        location = /webhook {
            if ($$http_webhook_signature = "") { return 401; }
            access_log $folder/deliveries.log delivery buffer=64k flush=100ms;
            return 204;
        }
    }
}
""")


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx and its log of deliveries."""

    process: ServerProcess
    log: Path

    @property
    def endpoint(self) -> str:
        """Give the URL to subscribe."""
        return f"{self.process.url}/webhook"

    def deliveries(self) -> Deliveries:
        """Read the log as far as it is written: nginx holds back at most 100 ms of it."""
        return parse_deliveries(self.log.read_bytes())


def parse_deliveries(log: bytes) -> Deliveries:
    """Count the lines `<sequence> <seconds>`; one cut short by a flush is left out."""
    lines = log[: log.rfind(b"\n") + 1].splitlines()
    distinct = {line.partition(b" ")[0] for line in lines}
    last_at = float(lines[-1].partition(b" ")[2]) if lines else 0.0
    return Deliveries(len(lines), len(lines) - len(distinct), last_at)


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
        yield Nginx(process, folder / "deliveries.log")
