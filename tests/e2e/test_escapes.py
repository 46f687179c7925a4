"""Text of others that would steer a terminal, through every command that shows any."""

from __future__ import annotations

import os
import pty
import subprocess

from tests.e2e.driver import SWARM, Swarm, common_dir

EVIL = "\x1b]0;owned\x07\x1b[2Jwipe\u202eevil\x9b31m"
STEERS = set("\x1b\x07\r\x9b\u202e\x08")


def on_a_terminal(swarm: Swarm, *args: str) -> str:
    """What a command shows where its output is a terminal without colours."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*SWARM, *args], cwd=swarm.top, env={**swarm.env, "NO_COLOR": "1"}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    data = b""
    try:
        while chunk := os.read(ours, 65536):
            data += chunk
    except OSError:
        pass  # so a terminal says that nobody writes to it any more
    finally:
        os.close(ours)
        child.wait()
    return data.decode("utf-8", "replace")


def test_nothing_that_a_plan_or_a_worker_says_steers_a_terminal(swarm: Swarm) -> None:
    """Titles, names of files, what a worker prints and writes, and a person's notes come out of no command as they went in, piped
    or in a terminal, nor of an error, nor into the daemon's log. Only a diff in a pipe is as it is, for `git apply`."""
    work = (
        f"printf '%s\\n' 'out {EVIL}'; printf '%s\\n' 'body {EVIL}' > \"file-{EVIL}\"; "
        f'printf \'{{"summary": "%s"}}\' \'said\' > "$SWARM_RESULT_FILE"'
    )
    plan = swarm.plan(
        "evil",
        [
            swarm.task("good", work, title=f"Title {EVIL}"),
            swarm.task("bad", f"printf '%s\\n' '{EVIL}' >&2; exit 3", title=EVIL, attempts=1, claims=["x"]),
            swarm.task("late", gate="late", title=f"Late {EVIL}", claims=[f"path-{EVIL}"]),
        ],
    )
    swarm("start")
    said = [swarm("check", str(plan), code=None), swarm("submit", str(plan), code=None)]
    swarm.wait_for_start("good", "bad", "late")
    swarm("tell", "late", f"note {EVIL}")
    said += [swarm("claims"), swarm("claims", "--work")]
    swarm.open("late")
    said.append(swarm("wait", "--run", "evil", code=None))
    for args in (
        ("status",),
        ("show", "good"),
        ("show", "bad"),
        ("logs", "good"),
        ("logs", "bad"),
        ("events",),
        ("retry", EVIL),
    ):
        said.append(swarm(*args, code=None))
    for each in said:
        assert not STEERS & set(each.out + each.err), (each.out + each.err)[-2000:]
    assert any("\\x1b" in each.out for each in said)
    for args in (("diff", "good"), ("logs", "good")):
        shown = on_a_terminal(swarm, *args)
        assert "evil" in shown
        assert not (STEERS - {"\r"}) & set(shown), shown[-2000:]
    logged = (common_dir(swarm.top) / "swarm" / "log" / "daemon.log").read_text("utf-8", "replace")
    assert not STEERS & set(logged)
