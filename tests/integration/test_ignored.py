"""What a worker changed of that which git ignores, told from what lay there before."""

from __future__ import annotations

from pathlib import Path

from swarm.edge.ignored import NAMED_MAX
from tests.conftest import wait_until
from tests.integration.conftest import open_pool
from tests.integration.test_worktrees import base  # noqa: F401

KEY = "r/t/1"


def moment_ns(folder: Path) -> int:
    """Gives the time of a file that is older than whatever is written from now on; the clock of files ticks slowly."""
    stamp, probe = folder / "stamp", folder / "probe"
    stamp.touch()
    began_ns = stamp.stat().st_mtime_ns

    def has_ticked() -> bool:
        probe.touch()
        return probe.stat().st_ctime_ns > began_ns

    wait_until(has_ticked)
    return began_ns


def test_only_what_the_worker_changed_is_listed(repo: Path, base: str, tmp_path: Path) -> None:  # noqa: F811
    """Neither what setup made nor what is copied or shared is listed, unless the worker changed what setup made; links are listed
    and not followed."""
    (repo / ".env").write_text("KEY=1\n")
    (repo / "node_modules").mkdir()
    setup = "mkdir -p deps/node_modules && for each in 1 2; do echo $each > $each.log; echo > deps/node_modules/$each; done"
    pool = open_pool(repo, copy=[".env"], share=["node_modules"], setup=setup)
    path = pool.take(KEY, base)
    began_ns = moment_ns(tmp_path)
    assert pool.ignored(path, base, key=KEY, after_ns=began_ns) == ()
    (path / "2.log").write_text("another\n")
    (path / "deps" / "node_modules" / "1").write_text("another\n")
    (path / "link.log").symlink_to("/")
    (path / ".env").write_text("KEY=2\n")
    (path / "node_modules" / "x").write_text("\n")
    found = pool.ignored(path, base, key=KEY, after_ns=began_ns)
    assert found == ("2.log", "deps/node_modules/1", "link.log")
    for number in range(NAMED_MAX + 1):
        (path / f"many-{number}.log").touch()
    assert len(pool.ignored(path, base, key=KEY, after_ns=began_ns)) == NAMED_MAX
    pool.close()
