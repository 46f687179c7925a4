"""`swarm web` as a person has it: a program that prints an address, and the page there in a real browser."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.conftest import git
from tests.e2e.browser import browser, chromium
from tests.e2e.driver import PATIENCE_S, Swarm


@contextmanager
def served(swarm: Swarm) -> Iterator[str]:
    """Starts it and gives the address that it prints; ends it by Ctrl-C, which it must do as promised."""
    program = swarm.spawn("web")
    assert program.stdout is not None
    address = program.stdout.readline().strip()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", address), address
        yield address
    finally:
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=PATIENCE_S)
    assert program.returncode == 130
    assert (out, err) == (
        "",
        "Ctrl-C ends it. Whoever has this address can see and steer: don't pass it on.\n",
    )


class Page:
    """What a browser asks for after the page: with the cookie that it was given, or another."""

    def __init__(self, address: str, open_: ExitStack) -> None:
        self._open = open_
        self.host = urlsplit(address).netloc
        self._cookie = ""
        answer = self._asked(address.removeprefix(f"http://{self.host}"))
        self._cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]

    def _asked(self, target: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        wire = self._open.enter_context(closing(http.client.HTTPConnection(self.host, timeout=PATIENCE_S)))
        data = None if body is None else json.dumps(body)
        wire.request("GET" if body is None else "POST", target, data, {"Cookie": self._cookie, **headers})
        return self._open.enter_context(wire.getresponse())

    def ask(self, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Gives the status and the document of an answer; of a refusal only the status."""
        answer = self._asked(target, body, **headers)
        return answer.status, json.loads(answer.read()) if answer.status == 200 else None

    def hear(self, target: str) -> Iterator[Any]:
        """Yields the documents of a stream of events."""
        for line in self._asked(target):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])

    def pictures(self) -> Iterator[dict[str, Any]]:
        """Yields what the page is told, by the path of each repository."""
        for shown in self.hear("/events"):
            yield {each["path"]: each for each in shown["repositories"]}


@pytest.mark.slow
def test_two_daemons_in_one_page(swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path) -> None:
    """Both are seen as they come, work, and go, by whoever has the token and by nobody else; what is steered is done."""
    subprocess.run(["git", "clone", "-q", str(swarm.top), str(tmp_path / "other")], check=True)
    git(tmp_path / "other", "config", "user.name", "Ada")
    git(tmp_path / "other", "config", "user.email", "ada@example.org")
    other = swarm_in(tmp_path / "other")
    here, there = str(swarm.top), str(other.top)
    with served(swarm) as address, ExitStack() as open_:
        page = Page(address, open_)
        pictures = page.pictures()
        seen = next(pictures)
        assert (list(seen), seen[here]["daemon"]["state"]) == ([here], "none")
        swarm("start")
        other("start")
        other(
            "submit", str(other.plan("p", [other.task("a", other.does("echo printed; echo > a", gate="go"))]))
        )
        seen = next(
            p
            for p in pictures
            if there in p and p[there]["workers"] and p[here]["daemon"]["state"] == "running"
        )
        assert (seen[there]["workers"][0]["name"], seen[here]["workers"]) == ("a", [])
        steer = {"repository": here, "do": "pause"}
        refused = (
            page.ask("/steer", steer),
            page.ask("/events", Cookie=""),
            page.ask("/events", Host="evil.example"),
        )
        assert [status for status, _ in refused] == [403] * 3
        assert page.ask("/steer", steer, Origin=f"http://{page.host}")[0] == 200
        next(p for p in pictures if p[here]["daemon"]["state"] == "paused")
        other.open("go")
        next(p for p in pictures if there in p and p[there]["landings"])
        about = urlencode({"repository": there, "run": "p", "task": "a"})
        assert page.ask(f"/task?{about}")[1]["state"] == "landed"
        assert "diff --git" in page.ask(f"/diff?{about}")[1]["text"]
        assert "diff --git" in page.ask(f"/diff?{about}&attempt=1")[1]["text"]
        assert page.ask(f"/diff?{about}&attempt=2")[1]["text"] == ""
        told = next(page.hear(f"/log?{about}"))
        assert (["attempt 1, worker", "printed"] in told["lines"], told["over"]) == (True, True)
        swarm("stop")
        next(p for p in pictures if not _runs(p[here]) and _runs(p[there]))


def test_nobody_is_kept_out_by_others(swarm: Swarm) -> None:
    """Whoever connects without a token, says nothing and stays keeps no place from who has one; who is refused goes at once."""
    with served(swarm) as address, ExitStack() as open_:
        host, _, port = urlsplit(address).netloc.partition(":")
        silent = [
            open_.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            for _ in range(300)
        ]
        page = Page(address, open_)
        assert page.ask("/events", Cookie="")[0] == 403
        assert silent[0].recv(1) == b""
        silent[-1].sendall(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        refused = b"".join(iter(partial(silent[-1].recv, 4096), b""))
        assert refused.startswith(b"HTTP/1.1 403 ")


def _runs(shown: dict[str, Any]) -> bool:
    return shown["daemon"]["state"] in ("running", "paused")


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed: make browser")
def test_the_page_in_a_browser(swarm: Swarm, tmp_path: Path) -> None:
    """What runs is there, what others wrote is text whatever it is, the token is not in the address any more, and clicks steer."""
    evil = "<img src=x onerror='document.title=1'><script>document.title=2</script>\u202e"
    tasks = [
        swarm.task("works", swarm.does("echo '<b>step</b> 1'; echo > works", gate="go"), title=evil),
        swarm.task("fails", "exit 3", attempts=1),
    ]
    program = chromium()
    assert program is not None
    with served(swarm) as address, browser(program, tmp_path) as page:
        page.go(address)
        page.wait_for("document.querySelector('#daemon-state')?.textContent == 'no daemon'")
        assert page.value("location.search + document.cookie") == ""
        swarm("start")
        swarm("submit", str(swarm.plan("p", tasks)))
        page.wait_for("document.querySelector('#workers')?.innerText.includes('<b>step</b> 1')")
        page.wait_for("document.querySelector('#failures')?.innerText.includes('swarm retry p/fails')")
        assert evil.replace("\u202e", "") in page.text("#workers")
        assert page.value("document.querySelectorAll('main img, main script, main b').length") == 0
        page.click("#workers a")
        page.click("#tab-log")
        page.wait_for("document.querySelector('#log').innerText.includes('<b>step</b> 1')")
        page.click("#task-actions button")
        page.click("#sure-yes")
        page.wait_for("document.querySelector('#task-state').textContent == 'cancelled'")
        assert page.errors == []
        assert not page.value("document.title").isdigit()


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed: make browser")
def test_tabs_tell_repositories_and_ends_apart(
    swarm: Swarm, swarm_in: Callable[..., Swarm], tmp_path: Path
) -> None:
    """Of two repositories of one name a tab names the folder too; what failed and what that blocked are two words, in the title as
    well."""
    namesake = tmp_path / "elsewhere" / swarm.top.name
    subprocess.run(["git", "clone", "-q", str(swarm.top), str(namesake)], check=True)
    other = swarm_in(namesake)
    other("start")
    tasks = [swarm.task("fails", "exit 3", attempts=1), swarm.task("later", "echo > later", needs=["fails"])]
    swarm("run", str(swarm.plan("p", tasks)), code=1)
    program = chromium()
    assert program is not None
    with served(swarm) as address, browser(program, tmp_path) as page:
        page.go(address)
        page.wait_for("document.querySelectorAll('#repositories a').length == 2")
        page.wait_for("document.querySelector('#repositories .bad')?.textContent == '1 failed, 1 blocked'")
        tabs = page.text("#repositories")
        assert f"elsewhere/{swarm.top.name}" in tabs
        assert f"{swarm.top.parent.name}/{swarm.top.name}" in tabs
        assert page.value("document.title").startswith("1 failed, 1 blocked")
        assert page.errors == []
