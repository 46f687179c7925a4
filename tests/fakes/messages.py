"""A Messages endpoint of our own on loopback, for the real anthropic package: it answers as the test says, and keeps what it was
asked.

Rules for editing: nothing here knows of swarm. What can go wrong with a real endpoint is one of the replies below.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]
EDITOR = "str_replace_based_edit_tool"


@dataclass(frozen=True)
class Reply:
    """A whole answer, streamed: text, then calls of tools as (name, input). `cut` ends it after so many events, without a word, and
    with `clean` as if that were all; `error` ends it there with an error event of this type. `raw_input` is written in place of the
    input of the last call."""

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    stop: str = ""
    cut: int | None = None
    clean: bool = False
    error: str = ""
    raw_input: str | None = None
    tokens_in: int = 100
    tokens_out: int = 10
    cached: int = 0


@dataclass(frozen=True)
class Failure:
    """A response that is an error, with its headers."""

    status: int
    kind: str = "api_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = "as the test wants"


@dataclass(frozen=True)
class Page:
    """Something that answers, and is no Messages API."""

    body: str
    content_type: str = "text/event-stream"


Answers = Callable[[Request, int], "Reply | Failure | Page"]


class Endpoint:
    """What was asked, in order: the requests, and the key that each came with. `hold` makes every answer wait until it is set."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.keys: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def of(self, word: str) -> list[Request]:
        """Gives the requests whose first message has this word."""
        return [each for each in self.requests if word in first_text(each)]


def first_text(request: Request) -> str:
    """Gives what a conversation began with."""
    content = request["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def results(request: Request) -> list[dict[str, Any]]:
    """Gives the results of tools in the last message."""
    return [block for block in request["messages"][-1]["content"] if block["type"] == "tool_result"]


def answered(request: Request) -> int:
    """Counts the answers that a conversation has already."""
    return sum(message["role"] == "assistant" for message in request["messages"])


def fault(request: Request) -> str:
    """Says what the API would refuse of a conversation; "" where it is well formed."""
    messages = request["messages"]
    if not messages or messages[0]["role"] != "user":
        return "the first message is not the user's"
    open_calls: list[str] = []
    for message in messages:
        blocks = (
            message["content"]
            if isinstance(message["content"], list)
            else [{"type": "text", "text": message["content"]}]
        )
        given = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if given != open_calls:
            return f"calls {open_calls} are answered by results of {given}"
        if not blocks or any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            return "a message or a text is empty"
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    return f"calls {open_calls} are not answered" if open_calls else ""


def script(*replies: Reply | Failure | Page) -> Answers:
    """Answers with these, one after the other, whatever is asked."""
    return lambda _request, number: replies[number]


@contextmanager
def serving(answers: Answers) -> Iterator[Endpoint]:
    """Serves until the block is left; `answers` gets the request and its number."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                number = len(endpoint.requests)
                endpoint.requests.append(request)
                endpoint.keys.append(self.headers.get("authorization", "").removeprefix("Bearer "))
                reply = (
                    Failure(400, "invalid_request_error", text=wrong)
                    if (wrong := fault(request))
                    else answers(request, number)
                )
            endpoint.hold.wait(240)
            try:
                self._reply(reply, number, request["model"])
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever asked has gone

        def _reply(self, reply: Reply | Failure | Page, number: int, model: str) -> None:
            if isinstance(reply, Failure):
                error = {"type": "error", "error": {"type": reply.kind, "message": reply.text}}
                self._send(reply.status, "application/json", json.dumps(error), reply.headers)
            elif isinstance(reply, Page):
                self._send(200, reply.content_type, reply.body, {})
            else:
                events = list(_events(reply, number, model))
                whole = "".join(events)
                if reply.cut is None and not reply.error:
                    self._send(200, "text/event-stream", whole, {})
                    return
                part = "".join(events[: reply.cut])
                if reply.error:
                    error = {"type": "error", "error": {"type": reply.error, "message": "as the test wants"}}
                    part += f"event: error\ndata: {json.dumps(error)}\n\n"
                self._send(
                    200,
                    "text/event-stream",
                    part,
                    {},
                    promised=len(whole.encode()) if not (reply.error or reply.clean) else None,
                )
                self.close_connection = True

        def _send(
            self,
            status: int,
            kind: str,
            body: str,
            headers: Mapping[str, str],
            *,
            promised: int | None = None,
        ) -> None:
            data = body.encode()
            self.send_response(status)
            length = len(data) if promised is None else promised
            for name, value in {"content-type": kind, "content-length": str(length), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was killed is no failure of the test's
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=lambda: server.serve_forever(0.02))
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _events(reply: Reply, number: int, model: str) -> Iterator[str]:
    usage = {
        "input_tokens": reply.tokens_in,
        "output_tokens": 1,
        "cache_read_input_tokens": reply.cached,
        "cache_creation_input_tokens": 0,
    }
    stop = reply.stop or ("tool_use" if reply.calls else "end_turn")
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": model, "content": []}
    yield _event(
        "message_start", message={**message, "stop_reason": None, "stop_sequence": None, "usage": usage}
    )
    blocks: list[tuple[dict[str, Any], dict[str, Any]]] = []
    if reply.text:
        blocks.append(({"type": "text", "text": ""}, {"type": "text_delta", "text": reply.text}))
    for place, (name, given) in enumerate(reply.calls):
        raw = (
            reply.raw_input
            if reply.raw_input is not None and place == len(reply.calls) - 1
            else json.dumps(given)
        )
        block = {"type": "tool_use", "id": f"toolu_{number}_{place}", "name": name, "input": {}}
        blocks.append((block, {"type": "input_json_delta", "partial_json": raw}))
    for index, (block, delta) in enumerate(blocks):
        yield _event("content_block_start", index=index, content_block=block)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    yield _event(
        "message_delta",
        delta={"stop_reason": stop, "stop_sequence": None},
        usage={"output_tokens": reply.tokens_out},
    )
    yield _event("message_stop")


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"
