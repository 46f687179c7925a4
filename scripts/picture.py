"""Draws the picture of a run for the README: a status document, taken from a real run, as the live view shows it.

swarm status --json > status.json        (while a run is at work)
python scripts/picture.py status.json docs/run.svg
"""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import datetime
from pathlib import Path

from rich.console import Console

from swarm.client.live import view

WIDTH = 104


def picture(document: dict[str, object], at: float, top: str) -> str:
    """Gives the live view of a status document at a moment as an SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print(view(document, now=at, width=WIDTH, top=top))
    drawn = console.export_svg(title="swarm status --watch")
    return re.sub(
        r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL
    )  # a picture that loads nothing from anywhere


def main(arguments: list[str]) -> None:
    """Reads the document and writes the picture."""
    source, target = Path(arguments[0]), Path(arguments[1])
    document = json.loads(source.read_text("utf-8"))
    started = [
        attempt["started_at"]
        for run in document["runs"]
        for task in run["tasks"]
        for attempt in task["attempts"]
    ]
    now = max(datetime.fromisoformat(text).timestamp() for text in started) + 1.0
    top = document["runs"][0]["staging"]["worktree"].rpartition("/.worktrees/")[0]
    target.write_text(picture(document, now, top) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
