"""A hub of one model on this machine: as much of its HTTP interface as a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0" * 40


@contextmanager
def hub(model_id: str, folder: Path) -> Iterator[str]:
    """Serves the files of `folder` as the model `model_id`; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            body = self._body()
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("ETag", f'"{hashlib.sha256(body or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(body or b"")

        def _body(self) -> bytes | None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{model_id}"):
                names = sorted(p.name for p in folder.iterdir())
                files = [{"type": "file", "path": n, "size": (folder / n).stat().st_size} for n in names]
                if "/tree/" in path:
                    return json.dumps([{**f, "oid": COMMIT} for f in files]).encode()
                siblings = [{"rfilename": n} for n in names]
                return json.dumps({"id": model_id, "sha": COMMIT, "siblings": siblings}).encode()
            wanted = folder / path.rpartition("/")[2]
            return (
                wanted.read_bytes() if path.startswith(f"/{model_id}/resolve/") and wanted.exists() else None
            )

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
