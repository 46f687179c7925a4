"""One trial: a day carried out by daemons that are killed, failed or stopped at ordered points, and what is true afterwards.

The daemons are those of `swarm chaos`. Each start is armed with the faults that have not fired yet; the first that is reached
fires, and the next daemon goes on with the rest. What never fires the coverage table shows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from swarm.client.killing import Daemons, Reached, Stuck
from tests.e2e.driver import Done, Swarm

LIMIT_S = 600.0  # of a trial; on a machine at rest it takes fifteen seconds


@dataclass
class Trial:
    """A repository in `folder` whose daemons are interrupted; what is carried out in it is said by `play`."""

    folder: Path
    faults: Sequence[str] = ()
    nested: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    workers: int = 4
    limit_s: float = LIMIT_S

    def play(self) -> list[str]:
        """Carries everything out, to the last stop; gives what is not as it must be."""
        raise NotImplementedError

    def run(self, template: Path) -> dict[str, Any]:
        """Plays, checks, and gives the report."""
        began = monotonic()
        self.deadline = began + self.limit_s
        self._nested = list(self.nested)
        top = self.folder / "repo"
        shutil.copytree(template, top, symlinks=True)
        self.swarm = Swarm(top, self.folder / "outside")
        env = {**self.swarm.env, **self.env}
        log = self.swarm.outside / "points"
        self.daemons = Daemons(top, env, log, self._order, workers=self.workers, quiet_s=LIMIT_S)
        try:
            wrong = self.play()
        except Stuck as stuck:
            wrong = [f"I19: {stuck}"]
        except (AssertionError, subprocess.SubprocessError, OSError, ValueError) as error:
            wrong = [f"{type(error).__name__}: {str(error)[-1500:]}"]
        finally:
            self.daemons.end()
        return {
            "faults": list(self.faults),
            "nested": list(self.nested),
            "fired": [f"{each.point}:{each.kind}" for each in self.daemons.fired()],
            "points": dict(Counter(each.point for each in self.daemons.reached())),
            "starts": self.daemons.starts,
            "deaths": self.daemons.deaths,
            "recovery_s": [round(each, 2) for each in self.daemons.recoveries_s],
            "seconds": round(monotonic() - began, 1),
            "wrong": wrong,
        }

    def _order(self, fired: Sequence[Reached]) -> str:
        """Orders the faults that have not fired; after the first start, one more on the way up from the last of them."""
        done = Counter(f"{each.point}:{each.kind}" for each in fired)
        left = []
        for fault in self.faults:
            name = fault.rpartition(":")[0]
            done[name] -= 1
            if done[name] < 0:
                left.append(fault)
        if self.daemons.starts > 1:
            left += self._nested[:1]
            del self._nested[:1]
        return ",".join(left)

    # --- what every play is made of

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until something has come about, with a daemon that runs."""
        self.daemons.until(condition, lambda: len(self.daemons.fired()))

    def do(self, *args: str, codes: Sequence[int] = (0,), again: Sequence[int] = ()) -> Done:
        """Has a command done, again where its daemon died over it; `again` are ends that are good then as well, since the daemon
        may have died after it did what was asked for."""
        refused = tries = 0
        while True:
            self.daemons.ensure()
            done = self.swarm(*args, code=None, timeout_s=LIMIT_S)
            tries += 1
            if done.code in codes or (tries > 1 and done.code in again):
                return done
            refused += self.daemons.alive()
            if refused > 3 or monotonic() > self.deadline:
                raise Stuck(f"swarm {' '.join(args)} ends with {done.code}: {done.err[-800:]}")

    def wait(self, name: str) -> dict[str, Any]:
        """Waits for the end of a run, however often its daemon is killed meanwhile, and gives its part of the document."""
        while True:
            done = self.do("wait", "--run", name, "--json", "--timeout", "60", codes=(0, 1, 3, 124))
            try:
                runs = [run for run in json.loads(done.out)["runs"] if run["id"] == name]
            except (ValueError, KeyError):
                runs = []
            if runs and done.code in (0, 1) and runs[0]["state"] != "active":
                return dict(runs[0])
            if monotonic() > self.deadline:
                raise Stuck(f"the run never ends: {json.dumps(runs)[:1500]}")
