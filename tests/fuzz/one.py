"""Fuzz one target, guided by what of the code each input reaches: `python -m fuzz.one NAME …`.

What follows the name goes to libFuzzer. It ends the process: 0 when the time is up, else at the
first input that the target's check does not bear, which it writes to a file.
"""

from __future__ import annotations

import sys

import atheris

from fuzz.target import check_of

INSTRUMENTED = ["broker", "broker_client"]


def main() -> None:
    """Watch every line of the product, then begin."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        check = check_of(name)
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
