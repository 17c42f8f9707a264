"""Ask whether the images' packages have known vulnerabilities: `make vulnerabilities`.

Exits with 0 if none is known, 1 if some are, 3 if the database could not be asked, which says
nothing about the packages.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "vulnerabilities"
IMAGES = ("broker", "order-service", "shipping-service", "notification-service")
NONE, SOME, NOT_ASKED = 0, 1, 3
PATIENCE_S = 120


def ask(image: str) -> Json | None:
    """Have pip-audit ask about an image's pinned requirements; None where it could not."""
    report = FOLDER / f"{image}.json"
    report.unlink(missing_ok=True)
    options = ("--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json")
    command = (sys.executable, "-m", "pip_audit", *options, "--output", str(report))
    command += ("--requirement", str(ROOT / image / "requirements.txt"))
    try:
        subprocess.run(  # noqa: S603 its own arguments
            command, check=False, capture_output=True, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return None
    return json.loads(report.read_text()) if report.exists() else None


def judged(report: Json | None) -> tuple[int, list[str]]:
    """Say what a report comes to. What the database did not know was not judged. Pure."""
    if report is None:
        return NOT_ASKED, ["The database of vulnerabilities could not be asked."]
    asked = [each for each in report["dependencies"] if "skip_reason" not in each]
    if not asked:
        return NOT_ASKED, ["The database of vulnerabilities knows none of the packages."]
    lines = [
        f"{each['name']} {each['version']}: {fault['id']}{_mended(fault)}"
        for each in asked
        for fault in each["vulns"]
    ]
    skipped = len(report["dependencies"]) - len(asked)
    summary = f"{len(asked)} packages asked about, {skipped} unknown, {len(lines)} vulnerabilities"
    return SOME if lines else NONE, [*lines, summary]


def _mended(fault: Json) -> str:
    versions = ", ".join(fault.get("fix_versions", ()))
    return f", mended in {versions}" if versions else ""


def main() -> int:
    """Ask about every image, tell, return the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    codes = []
    for image in IMAGES:
        code, lines = judged(ask(image))
        print("\n".join(f"{image}: {line}" for line in lines), flush=True)
        codes.append(code)
    return SOME if SOME in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
