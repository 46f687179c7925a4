"""A Responses endpoint of our own on loopback, for the real Codex: it asks for commands of a shell, then says that it is done.

Rules for editing: nothing here knows of swarm.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint:
    """What was asked, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[dict[str, Any]] = []


@contextmanager
def serving(commands: Sequence[str], *, limits: Sequence[dict[str, Any]] = ()) -> Iterator[Endpoint]:
    """Serves until the block is left: first each of `limits` as an error, then for each conversation the commands, one a turn."""
    lock = threading.Lock()
    refusals = list(limits)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, "application/json", json.dumps({"data": [], "models": []}))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                endpoint.requests.append(request)
                refusal = refusals.pop(0) if refusals else None
            if refusal is not None:
                self._send(429, "application/json", json.dumps({"error": refusal}))
                return
            done = sum(item.get("type") == "function_call_output" for item in request["input"])
            item = _call(commands[done], done) if done < len(commands) else _MESSAGE
            kinds: list[dict[str, Any]] = [
                {"type": "response.created", "response": {"id": "r"}},
                {"type": "response.output_item.done", "item": item},
                {"type": "response.completed", "response": {"id": "r", "usage": _USAGE}},
            ]
            events = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in kinds)
            self._send(200, "text/event-stream", events)

        def _send(self, status: int, kind: str, body: str) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=lambda: server.serve_forever(0.02))
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_USAGE = {
    "input_tokens": 100,
    "input_tokens_details": None,
    "output_tokens": 10,
    "output_tokens_details": None,
    "total_tokens": 110,
}
_MESSAGE = {
    "type": "message",
    "id": "m",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "All is done."}],
}


def _call(command: str, number: int) -> dict[str, Any]:
    given = json.dumps({"cmd": command})
    name = "exec_command"
    return {
        "type": "function_call",
        "id": f"f{number}",
        "call_id": f"c{number}",
        "name": name,
        "arguments": given,
    }
