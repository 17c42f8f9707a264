"""What each call is given and answers, as it was with a real broker: `make examples`."""

import json
from importlib.resources import files
from typing import Any

# By the name of the call: `body` and `answer` by media type, and the `status` of the answer.
EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    files("broker.control").joinpath("examples.json").read_text()
)
