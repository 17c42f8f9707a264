"""The examples of the library's README."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "sdk" / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
