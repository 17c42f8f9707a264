"""Throw hostile input at every parser, guided by coverage, one target after the other.

`make fuzz MINUTES=30`, or `python -m fuzz` in `tests/`; the minutes are shared out among the
targets. What breaks a promise is written to `build/fuzz/<target>/`, and played again with
`python -m fuzz --only TARGET --play FILE`, for which atheris is not needed. Once it is mended it
belongs among `tests/fuzz/seeds/<target>/`, which `make test` plays. Exits with 0 if nothing was
found, 1 if something was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fuzz.target import NAMES, SEEDS, check_of

TESTS = Path(__file__).parents[1]
FOLDER = TESTS.parent / "build" / "fuzz"
NOTHING, FOUND, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
MOST_BYTES = 16 * 1024
PATIENCE_S = 20
MOST_MEMORY_MB = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz what was chosen, return the exit code."""
    options = parse(arguments)
    names = options.only or NAMES
    if options.play is not None:
        for name in names:
            check_of(name)(options.play.read_bytes())
        return NOTHING
    if find_spec("atheris") is None:
        print("atheris is missing; `make fuzz` installs it.", file=sys.stderr)
        return WRONG_USE
    seconds = max(round(options.minutes * 60 / len(names)), 1)
    try:
        found = [name for name in names if not fuzz(name, seconds)]
    except KeyboardInterrupt:
        return INTERRUPTED
    if not found:
        print(f"nothing found in {len(names)} targets, {seconds} s each")
        return NOTHING
    print("\n".join(f"{name}: look into {FOLDER / name}" for name in found))
    return FOUND


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--minutes", type=positive, default=10.0, help="of all, default 10")
    parser.add_argument(
        "--only", action="append", default=[], choices=NAMES, metavar="TARGET", help=str(NAMES)
    )
    parser.add_argument("--play", type=Path, metavar="FILE", help="check one input, and no more")
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    """Read a number above zero."""
    number = float(text)
    if not 0 < number < 100_000:
        raise ValueError(text)
    return number


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target for so long; say whether nothing was found.

    What is interesting in this run goes to a folder that the next run begins with, and not to git.
    """
    folder = FOLDER / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    print(f"{name}: {seconds} s", flush=True)
    command = [
        *(sys.executable, "-m", "fuzz.one", name),
        f"-max_total_time={seconds}",
        f"-max_len={MOST_BYTES}",
        f"-timeout={PATIENCE_S}",
        f"-rss_limit_mb={MOST_MEMORY_MB}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        *(str(corpus), str(SEEDS / name)),
    ]
    with (folder / "log").open("wb") as log:
        done = subprocess.run(command, cwd=TESTS, stdout=log, stderr=log, check=False)
    lines = (folder / "log").read_text(errors="replace").splitlines()
    print("\n".join(line for line in lines if line.startswith("stat::number_of_executed")))
    if done.returncode != 0:
        print("\n".join(lines[-40:]))
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
