"""Who is let in at `swarm web`, and what its answers are made of, asked as a server asks it; no daemon runs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.responses import PlainTextResponse

from swarm.client import place
from swarm.client.session import Session
from swarm.client.web.door import Door
from swarm.client.web.feed import Feed
from swarm.client.web.output import last_line
from swarm.client.web.routes import application

PORT, TOKEN = 8765, "the-token"
HOST = f"127.0.0.1:{PORT}"
KEPT = f"swarm-{PORT}={TOKEN}"
App = Callable[..., Coroutine[Any, Any, None]]


def ask(
    app: Any, target: str, *headers: tuple[str, str], method: str = "GET", body: bytes = b""
) -> tuple[int, dict[str, str], str]:
    """Asks an application, as uvicorn would: the status, the headers and the text of the answer."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", PORT), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    asyncio.run(app(scope, receive, send))
    answer = {name.decode(): value.decode() for name, value in told[0]["headers"]}
    return told[0]["status"], answer, b"".join(each.get("body", b"") for each in told[1:]).decode()


@pytest.fixture
def door() -> Door:
    return Door(PlainTextResponse("inside"), TOKEN, PORT)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", [("Host", HOST)]),
        ("/", [("Host", HOST), ("Cookie", f"swarm-{PORT}=the-toke")]),
        ("/?token=the-tokem", [("Host", HOST)]),
        ("/?token=", [("Host", HOST)]),
        ("/?token=%ff%00", [("Host", HOST)]),
        ("/events?token=the-token", [("Host", HOST)]),
        ("/", [("Host", HOST), ("Cookie", f"swarm-{PORT + 1}={TOKEN}")]),
        ("/?token=the-token", []),
        ("/?token=the-token", [("Host", "evil.example")]),
        ("/?token=the-token", [("Host", f"evil.example:{PORT}")]),
        ("/?token=the-token", [("Host", f"127.0.0.1:{PORT + 1}")]),
        ("/?token=the-token", [("Host", "127.0.0.1")]),
        ("/?token=the-token", [("Host", f"{HOST}.evil.example")]),
        ("/?token=the-token", [("Host", HOST), ("Host", "evil.example")]),
        ("/events", [("Host", HOST), ("Cookie", KEPT), ("Origin", "http://evil.example")]),
        ("/events", [("Host", HOST), ("Cookie", KEPT), ("Origin", f"http://127.0.0.1:{PORT + 1}")]),
        ("/events", [("Host", HOST), ("Cookie", KEPT), ("Origin", f"https://{HOST}")]),
        ("/events", [("Host", HOST), ("Cookie", KEPT), ("Origin", "null")]),
    ],
)
def test_who_is_not_let_in(door: Door, target: str, headers: list[tuple[str, str]]) -> None:
    """Without the token, under another name, or from another page nothing is answered, and no cookie is given."""
    status, answer, text = ask(door, target, *headers)
    assert status == 403
    assert "inside" not in text
    assert TOKEN not in text
    assert "set-cookie" not in answer
    assert answer["content-security-policy"].startswith("default-src 'self'; ")


@pytest.mark.parametrize("name", [HOST, f"localhost:{PORT}", f"LocalHost:{PORT}"])
def test_the_token_is_kept_where_no_script_sees_it(door: Door, name: str) -> None:
    """The address with the token gives a cookie for this page alone, and with that one is let in; nothing is stored on the way."""
    status, answer, text = ask(door, f"/?token={TOKEN}", ("Host", name))
    assert (status, text) == (200, "inside")
    assert answer["set-cookie"] == f"{KEPT}; Path=/; HttpOnly; SameSite=Strict"
    assert (answer["cache-control"], answer["referrer-policy"]) == ("no-store", "no-referrer")
    assert "access-control-allow-origin" not in answer
    status, answer, text = ask(door, "/events", ("Host", name), ("Cookie", f"a=b; {KEPT}"))
    assert (status, text) == (200, "inside")
    assert "set-cookie" not in answer


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", f"http://127.0.0.1:{PORT + 1}"])
def test_a_change_is_asked_for_by_the_page_alone(door: Door, origin: str | None) -> None:
    """Another page of the browser, which has the cookie too, is refused, and so is whoever does not say where it comes from."""
    headers = [("Host", HOST), ("Cookie", KEPT), *([("Origin", origin)] if origin else [])]
    assert ask(door, "/steer", *headers, method="POST")[0] == 403
    assert ask(door, "/steer", *headers[:2], ("Origin", f"http://{HOST}"), method="POST")[0] == 200


# --- behind the door ---


@pytest.fixture
def feed(repo: Path) -> Feed:
    return Feed(place.locate(str(repo), os.environ), os.environ)


def test_every_file_of_the_page_is_served(feed: Feed) -> None:
    """As what it is, and nothing else below the same folder or above it."""
    app = application(feed)
    assert ask(app, "/")[1]["content-type"] == "text/html; charset=utf-8"
    for name, kind in (
        ("page.js", "text/javascript"),
        ("page.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        status, answer, _ = ask(app, f"/{name}")
        assert (status, answer["content-type"].partition(";")[0]) == (200, kind)
    assert ask(app, "/static/page.js")[0] == ask(app, "/..%2fdoor.py")[0] == ask(app, "/door.py")[0] == 404


@pytest.mark.parametrize("path", ["/etc", "", "..", "/"])
def test_only_repositories_that_are_shown_can_be_asked_about(feed: Feed, path: str) -> None:
    """No path is taken at its word, by whoever it is given."""
    for route in ("/tasks", "/task", "/diff", "/log"):
        status, _, text = ask(application(feed), f"{route}?repository={quote(path)}&run=r&task=t")
        assert (status, json.loads(text)["error"]["cause"]) == (400, "This repository is not shown here.")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"do": "stop"}',
        b'{"do": "finish", "repository": "/"}',
        b"\xff",
        b"[" * 60_000,
        b"x" * 70_000,
    ],
)
def test_what_steers_is_one_of_four(feed: Feed, body: bytes) -> None:
    """A request that can't be read, or for anything else, is refused in words and nothing is done."""
    status, _, text = ask(application(feed), "/steer", method="POST", body=body)
    assert (status, json.loads(text)["error"]["consequence"]) == (400, "Nothing was done.")


@pytest.mark.parametrize("more", [{"task": "x"}, {"run": "r"}, {"run": "r", "task": "x"}])
@pytest.mark.parametrize("do", ["pause", "resume"])
def test_everything_is_paused_only_where_that_is_asked_for(
    feed: Feed, repo: Path, do: str, more: dict[str, str]
) -> None:
    """Who names a run or a task does not have all others go on with it."""
    body = json.dumps({"repository": str(repo), "do": do, **more}).encode()
    status, _, text = ask(application(feed), "/steer", method="POST", body=body)
    assert (status, json.loads(text)["error"]["consequence"]) == (400, "Nothing was done.")


def test_steering_without_a_daemon_says_so(feed: Feed, repo: Path) -> None:
    """In the words of the command, with the next step."""
    body = json.dumps({"repository": str(repo), "do": "pause"}).encode()
    status, _, text = ask(application(feed), "/steer", method="POST", body=body)
    assert status == 503
    assert "swarm start" in json.loads(text)["error"]["next_step"]


def test_whoever_comes_back_is_told_only_what_is_new(feed: Feed, repo: Path) -> None:
    """One that has seen the newest picture already is sent none until there is another."""

    async def story() -> None:
        async with aclosing(feed.pictures()) as pictures:
            name, shown = await anext(pictures)
        assert [each["path"] for each in shown["repositories"]] == [str(repo)]
        assert shown["repositories"][0]["daemon"]["state"] == "none"
        again = [each async for each in _until_looked_at(feed, name)]
        assert again == []

    asyncio.run(asyncio.wait_for(story(), 60))


async def _until_looked_at(feed: Feed, seen: str) -> Any:
    """Gives the pictures that come until the repository has been looked at anew."""
    coming = asyncio.create_task(anext(feed.pictures(seen), None))
    while not feed._fresh:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    feed.close()
    if (found := await coming) is not None:
        yield found


def test_the_last_line_of_a_worker_is_found(repo: Path) -> None:
    """The one that says something, as a terminal would show it, and of any length; where there is no output it is empty."""
    session = Session(str(repo))
    output = session.state / "attempts" / "r" / "t" / "1" / "output.log"
    assert last_line(session, "r", "t", 1) == ""
    output.parent.mkdir(parents=True)
    output.write_bytes(b"a\n" * 100_000 + b"10 %\r20 %\r\x1b[31mstep 3\x1b[0m <b>\xe2\x80\xae\n\n  \n")
    assert last_line(session, "r", "t", 1) == "step 3 <b>\\u202e"
