"""What a worker is given and what it says of itself: its environment, and its result file.

Hides the form of both; they are public (the names are a contract with every agent ever written for this) and only grow.
Nothing that a worker wrote may raise here, be believed about success, or be larger than its bound.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from swarm.core.document import one_line
from swarm.core.model import Claim, Issue, WorkerResult
from swarm.core.qa import APPROVE, REJECT
from swarm.edge.trouble import raise_if_troubled
from swarm.protocol import KEYS

RESULT_MAX_BYTES = 1 << 20
SUMMARY_MAX_CHARACTERS = 10_000
FILES_READ_MAX = 10_000
ISSUES_MAX = 200
TITLE_MAX_CHARACTERS = 200  # of an issue, of which the rest comes to its text

# What a person set on purpose and what does not point into a repository; the rest of GIT_* would (a daemon that was
# started from a hook has GIT_DIR and GIT_INDEX_FILE of that repository).
_GIT_NAMES_KEPT = re.compile(
    r"GIT_((AUTHOR|COMMITTER)_(NAME|EMAIL)|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM)|SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS"
    r"|SSL_\w+|PROXY_\w+|HTTP_\w+|EXEC_PATH|TEMPLATE_DIR)"
)

# Lowers the noise between worktrees that share a repository; a worker can undo it, and the landing holds then too.
_GIT_SETTINGS = (
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("gc.worktreePruneExpire", "never"),
    ("core.packedRefsTimeout", "10000"),
    ("core.filesRefLockTimeout", "2000"),
    ("core.fsmonitor", "false"),
    ("rerere.enabled", "false"),
)


def environment(
    base: Mapping[str, str],
    *,
    run: str,
    task: str,
    attempt: int,
    worktree: Path,
    base_commit: str,
    claims: Iterable[Claim],
    prompt_file: Path,
    result_file: Path,
    slot: int,
    port_base: int,
    feedback_file: Path | None = None,
    answer_file: Path | None = None,
    keys: Iterable[str] = (),
) -> dict[str, str]:
    """Gives a worker's environment: `base` without what is meant for the daemon, and what the contract promises.

    Settings (`SWARM_*`) and what points git at another repository are left out; git configuration given by
    `GIT_CONFIG_COUNT` is kept and ours comes after it. Of variables that hold keys only those that `keys` names are given. Names
    that a shell can't hold (`a-b`) are left out, because some shells would drop them and some not.
    """
    env = {name: value for name, value in base.items() if is_for_others(name)}
    env.update({name: base[name] for name in KEYS.intersection(keys) if name in base})
    env.update(_git_settings(base))
    env.update(
        GIT_TERMINAL_PROMPT="0",
        SWARM_RUN=run,
        SWARM_TASK=task,
        SWARM_ATTEMPT=str(attempt),
        SWARM_WORKTREE=os.fspath(worktree),
        SWARM_BASE=base_commit,
        SWARM_CLAIMS=json.dumps([{"path": claim.path, "mode": claim.mode.value} for claim in claims]),
        SWARM_PROMPT_FILE=os.fspath(prompt_file),
        SWARM_RESULT_FILE=os.fspath(result_file),
        SWARM_SLOT=str(slot),
        SWARM_PORT_BASE=str(port_base),
    )
    if feedback_file is not None:
        env["SWARM_FEEDBACK_FILE"] = os.fspath(feedback_file)
    if answer_file is not None:
        env["SWARM_ANSWER_FILE"] = os.fspath(answer_file)
    return env


def is_for_others(name: str) -> bool:
    """Tells whether a variable of the daemon's may go on to what it starts."""
    if name.startswith("GIT_"):
        return _GIT_NAMES_KEPT.fullmatch(name) is not None
    # PWD and OLDPWD are the daemon's own; programs believe them when they name the same folder by another path.
    return (
        not name.startswith("SWARM_")
        and name not in ("PWD", "OLDPWD")
        and name not in KEYS
        and name.isascii()
        and name.isidentifier()
    )


def _git_settings(base: Mapping[str, str]) -> dict[str, str]:
    pairs: list[tuple[str, str]] = []
    count = base.get("GIT_CONFIG_COUNT", "")
    for n in range(int(count) if count.isdecimal() and len(count) < 4 else 0):
        key, value = base.get(f"GIT_CONFIG_KEY_{n}"), base.get(f"GIT_CONFIG_VALUE_{n}")
        if key is not None and value is not None:
            pairs.append((key, value))
    pairs.extend(_GIT_SETTINGS)
    env = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for n, (key, value) in enumerate(pairs):
        env[f"GIT_CONFIG_KEY_{n}"] = key
        env[f"GIT_CONFIG_VALUE_{n}"] = value
    return env


def read_result(path: Path) -> tuple[WorkerResult, str]:
    """Gives what a worker says of itself in its result file, and a note where that is not as it should be, else "".

    No file is an empty result without a note; what can't be read, is over 1 MiB, or is no JSON object is an empty result
    with one; a value of the wrong kind is left out and named. Raises only where the machine is in trouble (`OSError`).
    """
    try:
        data = _small_file(path)
    except FileNotFoundError:
        return WorkerResult(), ""
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise_if_troubled(error)
        return WorkerResult(), f"The result file can't be read: {error}."
    if not data.strip():
        return WorkerResult(), ""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        return WorkerResult(), f"The result file is not JSON: {error}."
    if not isinstance(found, dict):
        return WorkerResult(), f"The result file holds a {type(found).__name__}, not an object."
    return _result(found)


def read_answer(path: Path) -> tuple[str, str]:
    """Gives what a worker answered in its file, and a note where that can't be read, else ""; no file is no answer. Raises only
    where the machine is in trouble (`OSError`)."""
    try:
        return _small_file(path).decode("utf-8", "replace"), ""
    except FileNotFoundError:
        return "", ""
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise_if_troubled(error)
        return "", f"The answer can't be read: {error}."


def _small_file(path: Path) -> bytes:
    # A worker may have put anything there: a pipe that never ends, a link to what is not its own.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a regular file")
        with open(handle, "rb", closefd=False) as file:
            data = file.read(RESULT_MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(data) > RESULT_MAX_BYTES:
        raise ValueError(f"it is larger than {RESULT_MAX_BYTES} bytes")
    return data


def _result(found: Mapping[str, Any]) -> tuple[WorkerResult, str]:
    dropped: list[str] = []

    def take(name: str, reader: Callable[[Any], Any], default: Any) -> Any:
        value = found.get(name)
        if value is None:
            return default
        read = reader(value)
        if read is None:
            dropped.append(name)
            return default
        return read

    result = WorkerResult(
        summary=take("summary", _text, ""),
        retry_after_s=take("retry_after_s", _amount, None),
        cost_usd=take("cost_usd", _amount, None),
        tokens_in=take("tokens_in", _number, None),
        tokens_out=take("tokens_out", _number, None),
        files_read=take("files_read", _texts, ()),
        verdict=take("verdict", _verdict, ""),
        issues=take("issues", _issues, ()),
        rate_limited=take("rate_limited", _yes_or_no, None),
    )
    return result, f"The result file has values of the wrong kind: {', '.join(dropped)}." if dropped else ""


def _text(value: Any) -> str | None:
    # A lone surrogate can be written in JSON, and printed nowhere.
    return (
        value[:SUMMARY_MAX_CHARACTERS].encode(errors="replace").decode() if isinstance(value, str) else None
    )


def _amount(value: Any) -> float | None:
    if type(value) not in (int, float) or not 0 <= value < 1e12:
        return None
    return float(value)


def _number(value: Any) -> int | None:
    amount = _amount(value)
    return None if amount is None or amount != int(amount) else int(amount)


def _yes_or_no(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _verdict(value: Any) -> str | None:
    word = value.strip().casefold() if isinstance(value, str) else None
    return {"approve": APPROVE, "approved": APPROVE, "reject": REJECT, "rejected": REJECT}.get(word or "")


def _issues(value: Any) -> tuple[Issue, ...] | None:
    """Reads what a reviewer objects to: objects with a title, or plain texts. What is called otherwise is taken for what it is
    likely to be, and whatever is left for a text: what is objected to is worth more than its form."""
    if not isinstance(value, list | dict | str):
        return None
    listed = value if isinstance(value, list) else [value]
    return tuple(_issue(each) for each in listed[:ISSUES_MAX] if each not in (None, ""))


def _issue(value: Any) -> Issue:
    def first(*names: str) -> str:
        said = (_text(value.get(name)) for name in names) if isinstance(value, dict) else ()
        return next((text for text in said if text and text.strip()), "")

    text = first("text", "description", "details")
    title = first("title", "summary", "issue", "problem", "message") or text
    if not title:
        title = _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) or ""
    short = one_line(title, TITLE_MAX_CHARACTERS)
    said = (each for each in (title, text) if each and each != short)  # what the title does not say
    return Issue(short, first("path", "file"), "\n".join(dict.fromkeys(said)))


def _texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    read = [_text(item) for item in value[:FILES_READ_MAX]]
    return None if None in read else tuple(item for item in read if item is not None)
