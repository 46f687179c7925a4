"""What the worker may touch: bubblewrap, else Landlock, else none, and it says which.

Hides bubblewrap and its arguments, and what of them Landlock can do. A program that is shut in sees the machine's files read-only,
save its own worktree and a folder of its own, in which it finds an empty temporary folder and a home; it reaches no other process,
no socket below `/run`, and of the user's home not what opens other doors (keys, tokens, browsers). What it can't do any more and
what it still can is told, for people, in docs/explanation/sandbox.md.

Rules for editing: the order of the mounts is their meaning, later ones cover earlier ones. Nothing is made writable that a program
outside later reads as settings, or runs. What is masked is named here; what a worker needs besides is opened by the settings, not
here. The parent of bubblewrap is the launcher, so a worker ends with its launcher and outlives the daemon.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from swarm.core.adapters import Agent, expanded
from swarm.core.places import AttemptPlaces, state_of
from swarm.dataclass import dataclass
from swarm.edge import git, landlock
from swarm.edge.leases import sign_of
from swarm.edge.linked import give_rights_back, remove
from swarm.edge.secluded import SHARED_OBJECTS
from swarm.errors import UsageError
from swarm.protocol import DAEMON_FILE
from swarm.settings import Settings

BUBBLEWRAP, LANDLOCK, NONE = "bubblewrap", "landlock", "none"
PROBE_TIMEOUT_S = 20.0
HOME_ENTRIES_MAX = 2000
EARLIER_MAX = 100  # attempts of a task whose transcripts are shown

# What opens other doors, below the home. What an agent is let in by is open to that agent.
SECRETS = tuple(
    """
    .ssh .gnupg .git-credentials .config/git/credentials .netrc .authinfo .authinfo.gpg .password-store .vault-token .config/sops
    .aws .azure .boto .s3cfg .oci .fly .aliyun .kaggle .terraform.d .terraformrc .pulumi .databrickscfg .snowsql .snowflake
    .config/gcloud .config/doctl .config/hcloud .config/scw .config/linode-cli .config/heroku .config/netlify .config/.wrangler
    .config/stripe .config/ngrok .config/rclone .local/share/com.vercel.cli .cache/huggingface/token .huggingface
    .kube .docker .config/containers/auth.json .tsh .argocd .config/argocd .config/helm/registry
    .pgpass .my.cnf .mylogin.cnf .dbshell
    .npmrc .yarnrc.yml .pypirc .config/pypoetry/auth.toml .condarc .cargo/credentials .cargo/credentials.toml .gem/credentials
    .bundle/config .m2/settings.xml .gradle/gradle.properties .nuget/NuGet .composer/auth.json .config/composer/auth.json
    .config/gh .config/hub .config/glab-cli .config/github-copilot .subversion/auth
    .config/op .config/1Password .config/Bitwarden .config/keepassxc .local/share/keyrings .local/share/kwalletd
    .mozilla .thunderbird .config/google-chrome .config/chromium .config/BraveSoftware .config/microsoft-edge .config/vivaldi
    .config/opera .var/app snap .config/Signal .config/Slack .config/discord .config/filezilla .msmtprc .fetchmailrc
    .Xauthority .ICEauthority .vnc .bitcoin .electrum
    .bash_history .zsh_history .histfile .python_history .node_repl_history .irb_history .psql_history .mysql_history
    .sqlite_history .rediscli_history .lesshst .viminfo .local/share/fish
    .claude .claude.json .codex .gemini .config/anthropic .config/openai .aider.conf.yml .config/io.datasette.llm
    .local/share/opencode/auth.json
    """.split()  # noqa: SIM905 - one to a line is two pages
)
# Empty folders of its own: shared ones would hand on what one worker puts there.
_WRITABLE_IN_HOME = (".cache", ".npm")
# Whoever has the number of root writes to these without any of its rights, and it holds outside too: what the kernel starts on a
# crash, for one. bubblewrap means to cover them and asks whether the folder is writable, which it never is.
_KERNEL_SETTINGS = ("/proc/sys", "/proc/sysrq-trigger", "/proc/pressure")
_HIDDEN = ("/run", "/tmp", "/var/tmp", "/dev")  # noqa: S108 - hidden, not written to
_FOR_ALL = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - where everybody may write
# Of /run, where the machine's services have their sockets, what is read as files: name servers, and the programs of some systems.
_SHOWN_OF_RUN = (
    *(
        "/run/systemd/resolve",
        "/run/resolvconf",
        "/run/NetworkManager/resolv.conf",
        "/run/connman/resolv.conf",
    ),
    *("/run/current-system", "/run/opengl-driver", "/run/wrappers"),
)
_ALLOWED = re.compile(
    r"PATH|MANPATH|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TERM|COLORTERM|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CLICOLOR\w*|CI"
    r"|EDITOR|VISUAL|PAGER|LESS|(http|https|all|no|ftp)_proxy|(HTTP|HTTPS|ALL|NO|FTP)_PROXY|SSL_CERT_(FILE|DIR)|\w+_CA_BUNDLE"
    r"|PIP_CERT|NIX_SSL_CERT_FILE|NODE_EXTRA_CA_CERTS|LD_LIBRARY_PATH|PKG_CONFIG\w*|C_INCLUDE_PATH|CPATH|LIBRARY_PATH|CC|CXX|AR|LD"
    r"|\w*FLAGS|CMAKE_\w+|MAKELEVEL|VIRTUAL_ENV\w*|CONDA_\w+|PYTHON\w*|PYENV_\w+|PYTEST_\w+|COVERAGE_\w+|PIP_\w+|UV_\w+|POETRY_\w+"
    r"|TOX_\w+|NODE_\w+|NVM_\w+|NPM_CONFIG_\w+|npm_config_\w+|YARN_\w+|PNPM_\w+|VOLTA_\w+|DENO_\w+|BUN_\w+|JAVA_\w+|JDK_\w+"
    r"|MAVEN_\w+|GRADLE_\w+|GO\w+|CGO_\w+|CARGO_\w+|RUST\w+|RUBY\w*|GEM_\w+|BUNDLE_\w+|PERL\w*|PHP\w*|DOTNET_\w+|NIX_\w+|GIT_\w+"
)
_SECRET = re.compile(r"(?i)token|secret|passw|credential|(api|access|private|auth)_?key|_auth\b")


class Mount(NamedTuple):
    """What is seen at `target`: `source` to read or to write, an empty folder, or an empty file."""

    kind: Literal["read", "write", "empty folder", "empty file"]
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Room:
    """Where one program is shut in: it starts and may write in `place`, unless that is `read_only`, and in `own`, where it finds
    its `/tmp` and its home; `mounts` come on top, and `shown` is seen, read-only, where it would be hidden. One that is `open`
    needs sockets and places for all: what can't give it its own leaves it those of the machine. What can't be sure that nothing
    of the program's outlives it has a file whose path begins with `sign` be there until it is."""

    place: Path
    own: Path
    shown: tuple[Path, ...] = ()
    mounts: tuple[Mount, ...] = ()
    read_only: bool = False
    open: bool = False
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What is in force for this daemon: `name` is what shuts workers in, `why` says why that is not more."""

    name: str = NONE
    why: str = ""
    program: str = ""
    home: Path | None = None
    network: bool = True
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    env: tuple[str, ...] = ()

    @property
    def shuts_in(self) -> bool:
        """Whether anything is in force."""
        return self.name != NONE

    @property
    def moves(self) -> bool:
        """Whether a mount is seen at its target; else it is seen where its source is, and the target is not to be read."""
        return self.name == BUBBLEWRAP

    def prefix(self, room: Room, environ: Mapping[str, str], agent: Agent | None = None) -> tuple[str, ...]:
        """Makes the room, and gives the arguments in front of a program's own that shut it in. An agent has its folders."""
        if agent is not None:
            _make_theirs(agent, environ)
        make_own(room.own, self.home)
        theirs = (
            [expanded(path, environ) for path in (*agent.logins, *agent.writable)]
            if agent is not None
            else []
        )
        home = () if self.home is None else (self.home,)  # its links lead there, wherever it lies
        seen, is_open = (*home, *room.shown, *_programs(environ, agent)), room.open and not self.moves
        bare = _common(seen) if is_open else _bare(room.own, seen, self._temporary(environ))
        base = (*bare, *self._masks(theirs))
        opened = [Mount("read", path, path) for path in self.read]
        opened += [Mount("write", path, path) for path in (*self.write, *theirs)]
        place = str(room.place)
        mounts = (*base, *opened, Mount("read" if room.read_only else "write", place, place), *room.mounts)
        return self.around(mounts, place, network=self.network, sockets=is_open, sign=room.sign)

    def around(
        self, mounts: Iterable[Mount], place: str, *, network: bool, sockets: bool = False, sign: str = ""
    ) -> tuple[str, ...]:
        """Gives the arguments in front of a program's own that have it start in `place` and see nothing but the mounts. Where Unix
        sockets can't be hidden, all are refused or, with `sockets`, none."""
        if self.name == LANDLOCK:
            rules = _rules(mounts)
            return landlock.prefix(rules, place=place, network=network, sockets=sockets, sign=sign)
        return (*_arguments(self.program, mounts, network), "--chdir", place, "--")

    def environment(self, base: Mapping[str, str], own: Path, agent: Agent | None = None) -> dict[str, str]:
        """Gives of `base` what a program that is shut in may know, and its own home and temporary folder. An agent gets its keys,
        and what else begins with the same word."""
        patterns = [f"{key.partition('_')[0]}_*" for key in agent.keys] if agent is not None else []
        kept = {
            name: value
            for name, value in base.items()
            if (self.tells(name) and (_ALLOWED.fullmatch(name) or self._is_wanted(name)))
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }
        return {**kept, **self.own_places(own)}

    def own_places(self, own: Path) -> dict[str, str]:
        """Names the home and the temporary folder in `own`, as they are seen inside."""
        temporary = "/tmp" if self.moves else str(own / "tmp")  # noqa: S108 - its own
        return {"HOME": str(own / "home"), "TMPDIR": temporary}

    def tells(self, name: str) -> bool:
        """Tells whether a variable is not named like a secret, or is one that the settings want to be known."""
        return not _SECRET.search(name) or self._is_wanted(name)

    def _is_wanted(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.env)

    def _temporary(self, environ: Mapping[str, str]) -> str:
        """Gives the user's own folder for temporary files where that is another than everybody's, "" else."""
        named = environ.get("TMPDIR", "")
        path = os.path.realpath(named)
        around = {path, *map(str, Path(path).parents)}
        is_own = os.path.isabs(named) and os.path.isdir(path) and around.isdisjoint(_HIDDEN)
        home = self.home is not None and (self.home == Path(path) or Path(path) in self.home.parents)
        return path if is_own and not home else ""

    def _masks(self, opened: Iterable[str]) -> Iterator[Mount]:
        """Hides the secrets of the home, save what lies in, or around, what is opened."""
        for name in SECRETS if self.home is not None else ():
            path = os.path.realpath(f"{self.home}/{name}")
            kind = _kind_of_mask(path)
            if kind is not None and path not in map(os.path.realpath, opened):
                yield Mount(kind, "", path)


NO_SANDBOX = Sandbox()


def choose(settings: Settings, environ: Mapping[str, str]) -> Sandbox:
    """Tries what the machine offers and gives the strongest that works. Raises `UsageError` where one is required and none does."""
    if settings.sandbox == "off":
        return Sandbox(why="it is switched off")
    program = shutil.which("bwrap", path=environ.get("PATH"))
    why = probe(Sandbox(BUBBLEWRAP, program=program)) if program else "bubblewrap (bwrap) is not installed"
    if not why:
        return _in_force(BUBBLEWRAP, "", program or "", settings, environ)
    neither = landlock.lacks() or probe(Sandbox(LANDLOCK))
    if not neither:
        return _in_force(LANDLOCK, f"{why}{_signals_pass()}", "", settings, environ)
    if settings.sandbox == "required":
        raise UsageError(
            f'sandbox = "required", and there is none: {why}; {neither}.',
            "No daemon was started, since its workers could write wherever you may.",
            'install bubblewrap, or set sandbox = "auto" and run them without',
        )
    return Sandbox(why=f"{why}; {neither}")


def _in_force(name: str, why: str, program: str, settings: Settings, environ: Mapping[str, str]) -> Sandbox:
    paths, home = settings.sandbox_paths, _home(environ)
    read, write = (tuple(expanded(path, environ) for path in each) for each in (paths.read, paths.write))
    return Sandbox(
        name, why, program, home, settings.sandbox_network, read, write, tuple(settings.sandbox_env)
    )


def _signals_pass() -> str:
    held = landlock.abi() >= landlock.SIGNALS_HELD_ABI
    return (
        "" if held else f"; with this kernel (Landlock ABI {landlock.abi()}) a worker can end your processes"
    )


def probe(sandbox: Sandbox) -> str:
    """Shuts a program in that does nothing; gives why that did not work, or ""."""
    mounts = (Mount("read", "/", "/"), Mount("empty folder", "", "/run"))
    try:
        done = subprocess.run(
            [*sandbox.around(mounts, "/", network=False), "/bin/sh", "-c", "exit 0"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{sandbox.name} does not work here: {error}"
    said = done.stderr.strip().rpartition("\n")[2][:200]
    return (
        ""
        if done.returncode == 0
        else f"{sandbox.name} does not work here: {said or f'exit status {done.returncode}'}"
    )


# --- rooms ----------------------------------------------------------------------------------------------------


def worker_room(
    worktree: Path,
    git_folder: Path | None,
    *,
    common: Path,
    top: Path,
    look: Path,
    places: AttemptPlaces,
    read_only: bool = False,
) -> Room:
    """The room of a worker: `git_folder` stands in for the repository's own, in which the state folder lies too; of that it
    sees the folder `look`, in which is the daemon's socket for it. One that is to answer and change nothing has its worktree
    `read_only`."""
    if git_folder is not None:
        mounts = [Mount("write", str(git_folder), str(common))]
        mounts += [_read(common / "objects", common / SHARED_OBJECTS)]
        mounts += [_read(common / name) for name in ("hooks", "modules") if (common / name).is_dir()]
        if (common / "lfs").is_dir():  # large files that a worker adds lie nowhere else
            mounts.append(_write(common / "lfs"))
    else:
        mounts = [Mount("empty folder", "", str(state_of(common)))]
    mounts += [_read(look), _read(look / DAEMON_FILE, state_of(common) / DAEMON_FILE)]
    mounts.append(_read(worktree / ".git"))
    mounts += [_read(path) for path in (places.prompt, places.feedback, *_earlier(places)) if path.exists()]
    mounts.append(_write(places.own))
    shown = (top, common, *git.alternates(common / "objects"))
    return Room(worktree, places.own, shown, tuple(mounts), read_only, sign=sign_of(worktree))


def _earlier(places: AttemptPlaces) -> list[Path]:
    """The transcripts of the last attempts before this one, which the built-in agent goes on with."""
    n, task = int(places.folder.name), places.folder.parent
    return [AttemptPlaces(task / str(k)).transcript for k in range(max(1, n - EARLIER_MAX), n)]


def _read(source: Path, target: Path | None = None) -> Mount:
    return Mount("read", str(source), str(target or source))


def _write(path: Path) -> Mount:
    return Mount("write", str(path), str(path))


# --- bubblewrap's arguments -----------------------------------------------------------------------------------


def _arguments(program: str, mounts: Iterable[Mount], network: bool) -> Iterator[str]:
    yield program
    # As root the rights of root go as well: with them a read-only mount could be made writable again.
    yield from ("--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL")
    if not network:
        yield "--unshare-net"
    first = True
    for kind, source, target in mounts:
        if kind == "empty folder":
            yield from ("--tmpfs", target)
        elif kind == "empty file":
            yield from ("--ro-bind", os.devnull, target)
        else:
            yield from ("--ro-bind-try" if kind == "read" else "--bind-try", source, target)
        if first:  # upon the root
            yield from ("--dev", "/dev", "--proc", "/proc")
            for settings in _KERNEL_SETTINGS:
                yield from ("--ro-bind-try", settings, settings)
            first = False


# --- the same for Landlock ------------------------------------------------------------------------------------


def _rules(mounts: Iterable[Mount]) -> Iterator[tuple[str, str]]:
    """What is seen somewhere else than it lies is allowed where it lies, and what it would cover can't be read."""
    # Names can't be kept back one by one: not those in a folder of which anything is hidden.
    yield ("list", "/")
    first = True
    for kind, source, target in mounts:
        if source != target:
            yield "hide", target
        if source:
            yield kind, source
        if first:  # as above
            yield "hide", "/dev"
            yield from (("write", f"/dev/{name}") for name in landlock.DEVICES)
            first = False


# --- what they see ----------------------------------------------------------------------------------------------


def _bare(own: Path, seen: Iterable[Path], temporary: str) -> Iterator[Mount]:
    """The machine, read-only, without what others leave in places where everybody may write, and the user in their `temporary` one,
    save what is to be `seen` there."""
    yield from _machine()
    for place in ("/tmp", "/var/tmp", temporary):  # noqa: S108
        if os.path.isdir(place):
            yield Mount("write", str(own / "tmp"), os.path.realpath(place))
    hidden = (*_HIDDEN, temporary) if temporary else _HIDDEN
    yield from (Mount("read", path, path) for path in _in(hidden, seen))


def _common(seen: Iterable[Path]) -> Iterator[Mount]:
    """The machine with the places where everybody may write, save what is to be `seen` there, which stays read-only."""
    yield from _machine()
    yield from (Mount("write", place, place) for place in _FOR_ALL)
    for path in _in(_HIDDEN, seen):
        yield from (Mount("empty folder", "", path), Mount("read", path, path))


def _machine() -> Iterator[Mount]:
    yield Mount("read", "/", "/")
    yield Mount("empty folder", "", "/run")
    yield from (Mount("read", path, path) for path in _SHOWN_OF_RUN if os.path.lexists(path))


def _in(places: Iterable[str], paths: Iterable[Path]) -> Iterator[str]:
    """Gives those that lie in one of these places."""
    for path in dict.fromkeys(os.path.realpath(path) for path in paths):
        if any(path.startswith(f"{place}/") for place in places):
            yield path


def _programs(environ: Mapping[str, str], agent: Agent | None) -> Iterator[Path]:
    """The folders of PATH, and that of an agent's own program, each with what is installed beside it, and what this program itself
    is made of."""
    yield from (Path(sys.prefix), Path(__file__).parents[2])
    folders = environ.get("PATH", "").split(os.pathsep)
    if agent is not None and (named := (agent.command_in_sandbox or agent.command)[:1]):
        program = shutil.which(named[0], path=environ.get("PATH")) or named[0]
        yield Path(program)
        folders += [os.path.dirname(program), os.path.dirname(os.path.realpath(program))]
    for entry in folders:
        if os.path.isabs(entry):
            path = Path(entry)
            yield path.parent if path.name in ("bin", "sbin", "shims") and len(path.parts) > 3 else path


def _kind_of_mask(path: str) -> Literal["empty folder", "empty file"] | None:
    try:
        return "empty folder" if stat.S_ISDIR(os.stat(path).st_mode) else "empty file"
    except OSError:
        return None


# --- a folder of its own --------------------------------------------------------------------------------------


def make_own(own: Path, home: Path | None) -> None:
    """Makes the folder that a program that is shut in has for itself, anew: with `tmp`, and a `home` in which it may write, and
    where all of the user's home is as links; of the secrets these lead to nothing."""
    remove(own)
    for name in ("tmp", *(f"home/{name}" for name in _WRITABLE_IN_HOME)):
        os.makedirs(own / name, mode=0o700)
    if home is None or not home.is_dir():
        return
    for name in sorted(os.listdir(home))[:HOME_ENTRIES_MAX]:
        if name not in _WRITABLE_IN_HOME:
            os.symlink(home / name, own / "home" / name)


def _make_theirs(agent: Agent, environ: Mapping[str, str]) -> None:
    """Makes the folders that an agent writes to, as it would itself: what it keeps in one that is not there would go with the home
    of its own, and the conversation with it that the next attempt is to go on with. What is named like a file is left to it."""
    for path in map(Path, (expanded(path, environ) for path in agent.writable)):
        if path.is_absolute() and not path.suffix:
            with contextlib.suppress(OSError):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)


def take_out(places: AttemptPlaces) -> None:
    """Takes what a worker that was shut in said about itself out of its own folder, which goes. No process of it may be left."""
    for folder in (places.folder, places.worker, places.own):  # a worker may have taken its own rights away
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            give_rights_back(os.fsencode(folder))
    for own, kept in (
        (places.own_result, places.result),
        (places.own_answer, places.answer),
        (places.own_transcript, places.transcript),
    ):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.rename(own, kept)
    remove(places.own)


def _home(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("HOME", "")
    path = Path(os.path.realpath(named)) if os.path.isabs(named) else None
    return path if path is not None and path.is_dir() and path != Path("/") else None
