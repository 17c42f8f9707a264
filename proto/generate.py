"""Generate the Python code of the protocol into the packages that use it: `make protos`."""

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent
FILES = ("broker/v1/broker.proto", "io/cloudevents/v1/cloudevents.proto")
# The file names by which the descriptors are registered are the same in both, so that one process
# may use both packages.
PACKAGES = {
    "broker.rpc.generated": "broker/broker/rpc/generated",
    "broker_client.generated": "sdk/broker_client/generated",
}
_MESSAGES = {f"{name}_pb2.{kind}" for name in ("broker", "cloudevents") for kind in ("py", "pyi")}
# The broker serves by the descriptors themselves; only clients need the stub.
NEEDED = {
    "broker.rpc.generated": _MESSAGES,
    "broker_client.generated": {*_MESSAGES, "broker_pb2_grpc.py"},
}
MARK = '"""Generated from proto/; `make protos` writes it anew."""\n'


def generate(root: Path) -> None:
    """Write the code of both packages below a folder."""
    for package, place in PACKAGES.items():
        folder = root / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(MARK)
        with tempfile.TemporaryDirectory() as made:
            _run_protoc(made)
            for path in sorted(Path(made).rglob("*_pb2*.py*")):
                if path.name not in NEEDED[package]:
                    continue
                (folder / path.name).write_text(_with_imports_of(package, path.read_text()))


def _run_protoc(made: str) -> None:
    well_known = str(files("grpc_tools") / "_proto")
    options = [f"--{kind}={made}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *options, *FILES]) != 0:
        sys.exit("protoc failed")


def _with_imports_of(package: str, code: str) -> str:
    """Make imports those of a package: the paths of the files say `io`, which is another module."""
    return re.sub(
        r"^from (?:broker|io\.cloudevents)\.v1 import (\w+)",
        rf"from {package} import \1",
        code,
        flags=re.MULTILINE,
    )


if __name__ == "__main__":
    generate(PROTOS.parent)
