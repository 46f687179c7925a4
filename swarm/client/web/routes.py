"""What the page asks for: how things stand, one task, its output and its changes, and to have something done.

Everything is asked as the command of the same name asks it. Rules for editing: answers are bounded, whatever a worker wrote; text
of others goes through `printable`. What steers goes to the daemon as the command does, and only in the ways of `_STEERING`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from swarm import protocol
from swarm.client import changes
from swarm.client.session import Session
from swarm.client.web import picture
from swarm.client.web.door import PAGE
from swarm.client.web.feed import Feed
from swarm.client.web.output import Output
from swarm.errors import SwarmError, UsageError

BODY_BYTES_MAX = 1 << 16
PATCH_BYTES_MAX = 1 << 19
LOG_EVERY_S = 0.4
_FILES = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "task.js": "text/javascript; charset=utf-8",
    "shown.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_STEERING = {
    "retry": protocol.RETRY,
    "cancel": protocol.CANCEL,
    "pause": protocol.PAUSE,
    "resume": protocol.RESUME,
}
Answer = Callable[[Feed, Request], Awaitable[Response]]


def application(feed: Feed) -> Starlette:
    """Builds what is behind the door."""

    def route(path: str, answer: Answer, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await answer(feed, request)
            except SwarmError as error:
                return JSONResponse(protocol.error_body(error), protocol.error_status(error))
            except ClientDisconnect:
                return Response(status_code=400)  # which nobody gets any more
            except Exception as error:  # ours: it is told in the page, and the next question answered
                wrong = SwarmError(f"swarm web failed in a way that it should not: {type(error).__name__}.")
                return JSONResponse(protocol.error_body(wrong), 500)

        return Route(path, endpoint, methods=[method])

    here = Path(__file__).parent / "static"
    files = [route(f"/{name}", _file((here / name).read_bytes(), kind)) for name, kind in _FILES.items()]
    return Starlette(
        routes=[
            route(PAGE, _file((here / "page.html").read_bytes(), _FILES["page.html"])),
            *files,
            route("/events", _events),
            route("/tasks", _tasks),
            route("/task", _task),
            route("/diff", _diff),
            route("/log", _log),
            route("/steer", _steer, "POST"),
        ]
    )


def _file(data: bytes, kind: str) -> Answer:
    async def answer(_: Feed, __: Request) -> Response:
        return Response(data, media_type=kind)

    return answer


# --- what goes on -------------------------------------------------------------------------------------------------------------


def message(document: Any, *, name: str = "") -> bytes:
    """Writes a server-sent event; a browser that comes back says the `name` of the last one that it saw."""
    head = f"id: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, separators=(',', ':'))}\n\n".encode("ascii")


async def _events(feed: Feed, request: Request) -> Response:
    async def told() -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async with contextlib.aclosing(feed.pictures(request.headers.get("last-event-id", ""))) as pictures:
            async for name, shown in pictures:
                yield message({"now": time.time(), **shown}, name=name)

    return StreamingResponse(told(), media_type="text/event-stream")


# --- one task -----------------------------------------------------------------------------------------------------------------


async def _tasks(feed: Feed, request: Request) -> Response:
    session, ask = _session(feed, request), request.query_params
    document = await asyncio.to_thread(session.document)
    return JSONResponse(picture.tasks(document, ask.get("words", "")[:200], ask.get("state", "")))


async def _task(feed: Feed, request: Request) -> Response:
    session, run, task = _named(feed, request)

    def known() -> dict[str, Any]:
        document = session.task_document(run, task)
        daemon = session.daemon_or_none()
        return picture.task(document, session.place.top, alive=daemon is not None)

    return JSONResponse(await asyncio.to_thread(known))


async def _diff(feed: Feed, request: Request) -> Response:
    session, run, task = _named(feed, request)
    n = _attempt(request)
    patch = await asyncio.to_thread(
        changes.patch, session.top, session.state, run, task, attempt=n, binary=False
    )
    text = patch[:PATCH_BYTES_MAX].decode("utf-8", "replace")
    left = len(patch) - PATCH_BYTES_MAX
    return JSONResponse(
        {"text": protocol.printable(text, keep_newlines=True), "left_out_bytes": max(0, left)}
    )


async def _log(feed: Feed, request: Request) -> Response:
    """Tells what the newest attempt at a task, or one that is named, and its verification print, from the end and as it comes."""
    session, run, task = _named(feed, request)
    read = Output(session, run, task, _attempt(request))

    async def told() -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        over = False
        while not (over or feed.closed):
            shown, over = await asyncio.to_thread(read.come)
            if shown or over:
                yield message({"lines": shown, "over": over})
            await asyncio.sleep(LOG_EVERY_S)

    return StreamingResponse(told(), media_type="text/event-stream")


# --- steering -----------------------------------------------------------------------------------------------------------------


async def _steer(feed: Feed, request: Request) -> Response:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MAX:
            raise UsageError("The request is too large.", "Nothing was done.")
    try:
        body = json.loads(bytes(data))
        repository, do, run, task = (str(body.get(key) or "") for key in ("repository", "do", "run", "task"))
        route = _STEERING[do]
    except (ValueError, AttributeError, KeyError, RecursionError):
        raise UsageError("The request can't be read.", "Nothing was done.") from None
    session = feed.session(repository)
    one = do in ("retry", "cancel")
    if not one and (run or task):
        raise UsageError(f"Here {do} is for everything, and not for one task or run.", "Nothing was done.")
    # One task is tried again or given up, and no run as a whole; what is paused is everything.
    wanted = {"run": run, "tasks": [task]} if one else {"run": None, "task": None}

    def post() -> Any:
        return session.daemon().post(route, wanted)

    return JSONResponse(await asyncio.to_thread(post))


# --- what is meant ------------------------------------------------------------------------------------------------------------


def _session(feed: Feed, request: Request) -> Session:
    return feed.session(request.query_params.get("repository", ""))


def _attempt(request: Request) -> int | None:
    """Gives the attempt that a request names. Raises `UsageError` for what is no number."""
    named = request.query_params.get("attempt", "")
    if named and not (named.isascii() and named.isdigit() and len(named) < 10):
        raise UsageError("An attempt has a number.", "Nothing was done.")
    return int(named) if named else None


def _named(feed: Feed, request: Request) -> tuple[Session, str, str]:
    ask = request.query_params
    return _session(feed, request), ask.get("run", ""), ask.get("task", "")
