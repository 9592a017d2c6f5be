"""`python -m edgewise.cli.compile_catalog`: rewrite the model catalogue from the price list of the day.

A build step, not a verb of the command: it needs the build-time package `genai-prices`.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path

from edgewise.routing import compile as compiling


def main(argv: list[str]) -> int:
    """Write the catalogue; the first word may be a date (YYYY-MM-DD) other than today."""
    as_of = date.fromisoformat(argv[0]) if argv else datetime.now(UTC).date()
    path = Path(compiling.__file__).with_name("catalog.json")
    print(f"{compiling.write(path, as_of)} models as of {as_of} in {path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
