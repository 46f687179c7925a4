"""Broken clients against the real daemon."""

from __future__ import annotations

import json
import socket

from tests.e2e.driver import Swarm, common_dir


def test_broken_clients_do_the_daemon_no_harm(swarm: Swarm) -> None:
    """Half-open connections by the hundred, garbage, endless heads, nested and huge bodies and impossible numbers: each gets an
    error or nothing, and meanwhile the daemon answers and does its work."""
    swarm("start")
    path = json.loads((common_dir(swarm.top) / "swarm" / "daemon.json").read_text())["socket"]

    def send(data: bytes) -> socket.socket:
        wire = socket.socket(socket.AF_UNIX)
        wire.settimeout(60)
        wire.connect(path)
        wire.sendall(data)
        return wire

    def answer(data: bytes) -> bytes:
        with send(data) as wire:
            return wire.recv(65536)

    def post(route: str, body: bytes, length: int | None = None) -> bytes:
        size = len(body) if length is None else length
        return answer(f"POST {route} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + body)

    idle = [send(b"GET /v1/st") for _ in range(300)]
    assert b" 400 " in answer(b"\x00\x01\x02\r\n\r\n")
    assert b" 400 " in answer(b"GET /v1/ping HTTP/1.1\r\nX: " + b"x" * 100_000)
    assert b" 4" in post("/v1/scale", b"[" * 100_000)
    assert b" 4" in post("/v1/scale", b'{"workers_max": 1e999}')
    assert b" 4" in post("/v1/scale", b"[1]")
    assert b" 4" in post("/v1/scale", b"{}", length=1 << 40)
    assert b" 4" in answer(b"GET /v1/wait?timeout_s=nan HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in answer(b"GET /v1/events?after=99999999999999999999999 HTTP/1.1\r\nHost: x\r\n\r\n")
    run = swarm.run(swarm.plan("unharmed", [swarm.task("a"), swarm.task("b")]))
    swarm.check_landed(run)
    assert run["counts"]["landed"] == 2
    for wire in idle:
        wire.close()
