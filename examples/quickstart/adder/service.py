"""The service: `GET /health`, and `POST /v1/completions` with `{"prompt": ..}`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .model import complete


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200, {"status": "ok"})
        else:
            self.answer(404, {"error": "not found"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/completions":
            self.answer(404, {"error": "not found"})
            return
        try:
            prompt = str(json.loads(body)["prompt"])
        except (ValueError, KeyError, TypeError):
            self.answer(400, {"error": "expected a JSON object with a prompt"})
            return
        self.answer(200, {"choices": [{"text": complete(prompt)}]})

    def answer(self, status: int, document: dict) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def put(path: Path, text: str) -> None:
    """Write whole or not at all: whoever waits for the file never reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    draft.replace(path)


def serve(tell: Path, pid_file: Path) -> None:
    """Serve on a free loopback port until SIGTERM; remove the pid file as the last act."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # shutdown() waits for serve_forever() to return, so it must not run in the thread that serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    put(pid_file, f"{os.getpid()}\n")
    url = f"http://127.0.0.1:{server.server_address[1]}"
    put(tell, json.dumps({"service": {"base_url": url}}) + "\n")
    print(f"listening on {url}", flush=True)
    try:
        server.serve_forever(poll_interval=0.05)
    finally:
        server.server_close()
        pid_file.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the adder until SIGTERM.")
    parser.add_argument("--tell", type=Path, required=True, help="file to write the address to")
    parser.add_argument("--pid-file", type=Path, required=True)
    asked = parser.parse_args()
    serve(asked.tell, asked.pid_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
