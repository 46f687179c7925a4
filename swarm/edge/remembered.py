"""What has passed lately: a suite that passed on a tree is not run on it again by the same command in the same environment.

Hides the files, one for each such three, and what the environment comes to. Only what passed is remembered, and not for long, since
programs and services outside the tree change without being seen. Rules for editing: what can't be compared is never remembered
(folders that are shared with the user's checkout); a file that can't be read is one that is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from swarm.core.model import Suite, SuiteResult
from swarm.dataclass import dataclass
from swarm.edge import whole
from swarm.edge.furnish import Furnishing


@dataclass(frozen=True, slots=True)
class Remembered:
    """The suites that passed in the last `for_s` seconds, in the files of `folder`; 0: none is remembered."""

    folder: Path
    for_s: float

    def key(self, tree: str, suite: Suite, env: Mapping[str, str], furnishing: Furnishing) -> str:
        """Names tree, command and environment together; "" where the suite is not to be remembered."""
        if not (self.for_s and suite.remember) or furnishing.share:
            return ""
        parts = [tree, suite.run, str(suite.shard), furnishing.setup]
        parts += [f"{name}={value}" for name, value in sorted(env.items())]
        parts += _copies(furnishing)
        told = b"".join(b"%d:%b" % (len(raw), raw) for raw in map(os.fsencode, parts))
        return hashlib.sha256(told).hexdigest()

    def find(self, key: str) -> SuiteResult | None:
        """Gives what the suite said when it passed; None where it has not, or too long ago."""
        path = self.folder / key
        try:
            if not 0 <= time.time() - path.stat().st_mtime < self.for_s:
                return None
            said = SuiteResult(**{**json.loads(path.read_bytes()), "changed": ()})
        except (OSError, ValueError, TypeError):
            return None
        return said if said.outcome == "passed" else None

    def note(self, passed: Iterable[tuple[str, SuiteResult]]) -> None:
        """Remembers what passed, by its key, and forgets what is too old. Where that can't be written, the suite runs again."""
        with suppress(OSError):
            self._note(passed)

    def _note(self, passed: Iterable[tuple[str, SuiteResult]]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for key, result in passed:
            whole.write(self.folder / key, json.dumps(asdict(result)), durable=False)
        oldest = time.time() - self.for_s
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)


def _copies(furnishing: Furnishing) -> Iterator[str]:
    """Says what the files that are copied into a worktree hold; of one that can't be read nothing that was said before."""
    for path in furnishing.copy if furnishing.source is not None else ():
        assert furnishing.source is not None
        top = furnishing.source / path
        found = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]
        for file in found:
            yield f"{file.relative_to(furnishing.source)} {_content(file)}"


def _content(file: Path) -> str:
    try:
        if file.is_symlink():
            return f"link {os.readlink(file)}"
        return f"{file.stat().st_mode:o} {hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ''}"
    except FileNotFoundError:
        return "none"
