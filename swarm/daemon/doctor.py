"""`swarm doctor`: looks at everything that swarm stands on, and says what is well, what is not, and what to do about it.

Rules for editing: nothing is changed and nothing takes long: each look has a time limit, and one that fails is a line of its own
and never the end of the list. A line that is not well has a remedy that can be typed or done.
"""

from __future__ import annotations

import os
import platform
import resource
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from swarm import config
from swarm.core.model import COMMAND
from swarm.core.places import Places, state_of
from swarm.daemon import intake, usable
from swarm.dataclass import dataclass
from swarm.edge import git, ground, promised, suite_rooms
from swarm.edge.host import Host
from swarm.edge.journal import open_to_read, refuse_long
from swarm.edge.linked import place_of
from swarm.edge.sandbox import choose
from swarm.edge.saved import NEARLY, saved
from swarm.edge.survey import linked_worktrees
from swarm.errors import SwarmError
from swarm.protocol import counted
from swarm.settings import Settings

DESCRIPTORS_MIN = 256
_PYTHON_MIN = (3, 11)


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `state` is ok, warn or bad; what is not ok has a remedy."""

    name: str
    state: str
    text: str
    remedy: str = ""


def examine(top: Path, environ: Mapping[str, str]) -> list[Check]:
    """Looks at everything, in the order in which one thing stands on the other."""
    found: list[Check] = [*_machine(), _git()]
    try:
        repository = git.Repository.discover(top)
        settings = config.load(repository.working_top(), environ)
        intake.check_worktrees(settings, repository)
    except SwarmError as error:
        return [*found, Check("repository", "bad", error.cause, error.next_step)]
    places = Places(state_of(repository.common_dir))
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        lambda: _repository(repository),
        lambda: _room(repository, settings),
        lambda: _journal(places),
        lambda: _sandbox(settings, environ),
        lambda: _agents(settings, environ),
        lambda: _kept(repository, settings),
    )
    for look in looks:
        try:
            found += look()
        except (SwarmError, OSError) as error:
            found.append(Check("doctor", "warn", f"this could not be looked at: {error}", "see the log"))
    return found


def _machine() -> Iterator[Check]:
    about = f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores"
    old = sys.version_info < _PYTHON_MIN
    yield Check("machine", "bad" if old else "ok", about, "install Python 3.11 or newer" if old else "")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        yield Check(
            "processes",
            "bad",
            "this kernel can't hold on to a process (pidfd_open)",
            "use Linux 5.4 or newer",
        )
    if not stat.S_ISCHR(os.stat(os.devnull).st_mode):
        remedy = f"as root: mknod -m 666 {os.devnull}.new c 1 3 && mv {os.devnull}.new {os.devnull}"
        yield Check("machine", "bad", f"{os.devnull} is not the device that it should be", remedy)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    few = 0 <= soft < DESCRIPTORS_MIN
    remedy = f"ulimit -n {DESCRIPTORS_MIN * 4}, then start the daemon" if few else ""
    yield Check("descriptors", "warn" if few else "ok", f"{soft} open files allowed", remedy)


def _git() -> Check:
    try:
        git.probe()
        return Check("git", "ok", f"{git.run('--version').text} merges in memory")
    except SwarmError as error:
        return Check("git", "bad", error.cause, error.next_step or "install git 2.38 or newer")


def _repository(repository: git.Repository) -> Iterator[Check]:
    if repository.resolve("HEAD") is None:
        yield Check("repository", "bad", "it has no commit yet", "git commit --allow-empty -m 'first commit'")
    elif refused := ground.branch_in_the_way(repository.common_dir, "", ""):
        yield Check("repository", "bad", refused.cause, refused.next_step)
    else:
        yield Check("repository", "ok", f"{repository.top}, objects by {repository.object_format}")
    if promised.is_partial(repository.common_dir):
        yield _promised(repository)
    if repository.identity() is None:
        remedy = "git config user.name …; git config user.email …"
        yield Check("identity", "warn", "git knows no name for you: work is committed as swarm", remedy)


def _promised(repository: git.Repository) -> Check:
    remotes = promised.remotes(repository)
    if not remotes:
        remedy = "git config remote.NAME.promisor true, with the remote that has what is missing"
        return Check(
            "objects", "warn", "a partial clone, of which no remote is said to have the rest", remedy
        )
    text = f"a partial clone: what is missing of the commit that a run starts from is fetched from {' or '.join(remotes)}"
    return Check("objects", "ok", text)


def _room(repository: git.Repository, settings: Settings) -> Iterator[Check]:
    limits = settings.limits
    top = repository.working_top()
    readings = Host([top, repository.common_dir], config.readings_file(settings, top)).read()
    free, least = readings.disk_free_bytes, limits.disk_free_bytes_min
    state = "bad" if free < least else "warn" if free < 2 * least else "ok"
    remedy = "make room on the disk: below limits.disk_free_bytes_min nothing starts" if state != "ok" else ""
    yield Check("disk", state, f"{free / 1e9:.1f} GB free, {least / 1e9:.1f} GB are needed to start", remedy)
    inodes, least = readings.disk_free_inodes, limits.disk_free_inodes_min
    if inodes is not None and inodes < least:
        remedy = "remove files: below limits.disk_free_inodes_min nothing starts"
        yield Check("disk", "bad", f"{inodes} inodes free, {least} are needed to start", remedy)
    busy = [
        f"{name} is at {value:.0f} % of {most:.0f} %"
        for name, value, most in (
            ("CPU", readings.cpu_percent, limits.cpu_percent_max),
            ("memory", readings.memory_percent, limits.memory_percent_max),
        )
        if value >= most
    ]
    text = f"at most {counted(limits.workers_max, 'worker')}; memory at {readings.memory_percent:.0f} %"
    remedy = "nothing new starts until that passes; limits.*_percent_max decide" if busy else ""
    yield Check("limits", "warn" if busy else "ok", "; ".join([text, *busy]), remedy)


def _journal(places: Places) -> Iterator[Check]:
    try:
        if not places.journal.exists() and not places.landing.exists():
            refuse_long(places.journal)
            yield Check("journal", "ok", "there is none yet; the first run makes it")
            return
        with open_to_read(places) as journal:
            yield Check("journal", "ok", f"{journal.last_seq()} records in {places.journal}")
    except SwarmError as error:
        remedy = error.next_step or "swarm audit tells more; swarm recover --journal makes it anew"
        yield Check("journal", "bad", error.cause, remedy)


# --- what workers stand on ----------------------------------------------------------------------------------


def _sandbox(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """Tries it, as a daemon does when it comes up."""
    remedy = "install bubblewrap; where it is there and does not work, the system forbids user namespaces"
    try:
        found = choose(settings, environ)
    except SwarmError as error:
        yield Check("sandbox", "bad", error.cause, remedy)
        return
    if found.shuts_in:
        network = "with" if found.network else "without"
        said = f"{found.name}, {network} the network; sandbox = {settings.sandbox}"
        wider = suite_rooms.weaker(found, settings)
        said += f"; {wider}" if wider else ""
        yield (
            Check("sandbox", "warn", f"{said}; it holds less than bubblewrap: {found.why}", remedy)
            if found.why
            else Check("sandbox", "ok", said)
        )
    elif settings.sandbox == "off":
        yield Check("sandbox", "ok", "none: it is switched off, so workers may write wherever you may")
    else:
        yield Check("sandbox", "warn", f"none, so workers may write wherever you may: {found.why}", remedy)


def _agents(settings: Settings, environ: Mapping[str, str]) -> Iterator[Check]:
    """An agent that is built in and not there is no trouble, unless somebody wants it."""
    wanted = {settings.agent, *settings.agents}
    for each in usable.look_at_all(settings, environ):
        name = f"agent {each.name}"
        if each.usable:
            untested = "" if each.tested else "; nobody has tried it with swarm yet"
            yield Check(name, "ok", f"{each.program}, {each.version or 'which says no version'}{untested}")
        elif each.name in wanted:
            state = "bad" if each.name == settings.agent else "warn"
            yield Check(name, state, each.reason, each.remedy)
    if settings.agent != COMMAND and settings.agent not in config.to_agents(settings):
        remedy = f"define it: [agents.{settings.agent}] in swarm.toml"
        yield Check(f"agent {settings.agent}", "bad", "the default agent is not defined", remedy)


# --- what is kept ---------------------------------------------------------------------------------------------


def _kept(repository: git.Repository, settings: Settings) -> Iterator[Check]:
    common = repository.common_dir
    root = os.path.realpath(repository.working_top() / settings.worktrees.root)
    ours = [each for each in linked_worktrees(common) if place_of(Path(each.path)).is_relative_to(root)]
    branches = git.refs_below(common, "refs/heads/swarm/")
    link = ground.link_shown(Path(settings.worktrees.root), repository.working_top())
    text = f"{len(ours)} below {root}; {len(branches)} branches below swarm/"
    if link:
        text, remedy = (
            f"{text}; {link} is a link, which git shows as it was before",
            ground.exclude(link, common),
        )
        yield Check("worktrees", "warn", text, remedy)
    else:
        yield Check("worktrees", "ok", text)
    most = settings.limits.saved_refs_max
    for run, number in Counter(each.owner.run for each in saved(common)).items():
        text = f"run {run} has {number} of at most {most} recovery refs"
        near = number >= most * NEARLY
        remedy = (
            f"look at them (git branch --list 'swarm/{run}/saved/*'), or raise limits.saved_refs_max"
            if near
            else ""
        )
        yield Check("recovery refs", "warn" if near else "ok", text, remedy)
    kept = Path(root) / ground.POOL / ".kept"
    for path in (note.with_suffix("") for note in sorted(kept.glob("*.txt"))):  # each has a note
        if not path.is_dir():
            continue
        yield Check(
            "set aside",
            "warn",
            f"{path} could not be saved and was kept whole",
            f"see {path}.txt; take out what you want",
        )
