"""Small Hub on loopback: the model endpoints of huggingface-hub, with optional failures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Hub", "Repository"]


@dataclass
class Repository:
    """Commits of one repository; files are bytes, large ones identified by their sha256."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    def commit(self, branch: str, changes: dict[str, bytes]) -> str:
        files = dict(self.commits.get(self.branches.get(branch, ""), {})) | changes
        text = repr(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items()))
        oid = hashlib.sha1(f"{len(self.commits)} {text}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid


class Hub:
    """Server in a separate thread.

    Attributes:
        repositories: Repositories by ``owner/name``.
        requests: (method, path) of all requests.
        cut: Number of large files whose transfer will be interrupted.
        blobs: Large files by sha256.
    """

    token = "hf_secret"
    small = 10_000  # files of this size or more are large

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.cut = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def elsewhere(self) -> str:
        """URL under another host name, because the client treats hosts of large files differently."""
        return f"http://localhost:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        for pattern, handler in _ROUTES:
            if found := pattern.fullmatch(f"{self.command} {path}"):
                handler(self, body, *found.groups())
                return
        self._json({"error": "no such endpoint"}, 404)

    def _chunks(self) -> bytes:
        """Return the body of a chunked request."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")  # no connection remains open when the server is closed
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def _refused(self, status: int, code: str) -> None:
        self._json({"error": code}, status, X_Error_Code=code)

    def _repository(self, name: str) -> Repository | None:
        """Return the repository if it is visible; otherwise send an error."""
        found = self.hub.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if found is None or (found.private and not known):
            self._refused(404 if known else 401, "RepoNotFound")
            return None
        if found.gated and not known:
            self._refused(401, "GatedRepo")
            return None
        return found

    # --- reading --------------------------------------------------------------------------------

    def _resolve(self, _body: bytes, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        commit = repository.commit_of(revision)
        if commit is None:
            self._refused(404, "RevisionNotFound")
        elif file not in repository.commits[commit]:
            self._json({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        else:
            self._file(repository.commits[commit][file], commit)

    def _file(self, data: bytes, commit: str) -> None:
        if len(data) < self.hub.small:
            self._send(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=commit)
            return
        # For a large file, send its hash and size, and redirect to another host.
        oid = next((oid for oid, blob in self.hub.blobs.items() if blob == data), "")
        oid = oid or hashlib.sha256(data).hexdigest()
        self.hub.blobs.setdefault(oid, data)
        self._send(
            302,
            Location=f"{self.hub.elsewhere}/cdn/{oid}",
            X_Repo_Commit=commit,
            X_Linked_Etag=f'"{oid}"',
            X_Linked_Size=str(len(data)),
        )

    def _cdn(self, _body: bytes, oid: str) -> None:
        data = self.hub.blobs[oid]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin = int(wanted[1]) if wanted else 0
        part = data[begin:]
        if wanted:
            self.hub.ranges.append(wanted[0])
        headers = {"Content_Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if wanted else {}
        if self.hub.cut and self.command == "GET":
            self.hub.cut -= 1
            self._send(
                206 if wanted else 200, part[: len(part) // 2], Content_Length=str(len(part)), **headers
            )
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self._send(206 if wanted else 200, part, **headers)

    # --- writing --------------------------------------------------------------------------------

    def _create(self, body: bytes) -> None:
        request = json.loads(body)
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"error": "Invalid credentials in Authorization header"}, 401)
            return
        name = f"{request['organization']}/{request['name']}"
        status = 409 if name in self.hub.repositories else 200
        private = bool(request.get("private")) or request.get("visibility") == "private"
        self.hub.repositories.setdefault(name, Repository(private=private))
        self._json({"url": f"{self.hub.url}/{name}"}, status)

    def _yaml(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        wrong = [] if content.startswith("---\n") else [{"message": "no metadata"}]
        self._json({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    def _preupload(self, body: bytes, _name: str, _revision: str) -> None:
        files = json.loads(body)["files"]
        self._json(
            {
                "files": [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["size"] >= self.hub.small else "regular",
                        "shouldIgnore": False,
                    }
                    for each in files
                ]
            }
        )

    def _batch(self, body: bytes, _name: str) -> None:
        objects = json.loads(body)["objects"]
        self._json(
            {
                "transfer": "basic",
                "objects": [
                    each
                    | {
                        "actions": {
                            "upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"},
                            "verify": {"href": f"{self.hub.url}/verify"},
                        }
                    }
                    for each in objects
                ],
            }
        )

    def _upload(self, body: bytes, oid: str) -> None:
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.hub.blobs[oid] = body
        self._send(200 if right else 400)

    def _verify(self, body: bytes) -> None:
        request = json.loads(body)
        right = len(self.hub.blobs.get(request["oid"], b"")) == request["size"]
        self._json({}, 200 if right else 400)

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return
        changes = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            if entry["key"] == "lfsFile":
                changes[value["path"]] = self.hub.blobs[value["oid"]]
        oid = repository.commit(revision, changes)
        self._json({"commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})


_ROUTES = [
    (re.compile(pattern), handler)
    for pattern, handler in (
        (r"(?:HEAD|GET) /([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler._resolve),
        (r"(?:HEAD|GET) /cdn/(\w+)", _Handler._cdn),
        (r"POST /api/repos/create", _Handler._create),
        (r"POST /api/validate-yaml", _Handler._yaml),
        (r"POST /api/models/([^/]+/[^/]+)/preupload/([^/]+)", _Handler._preupload),
        (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch),
        (r"PUT /lfs/(\w+)", _Handler._upload),
        (r"POST /verify", _Handler._verify),
        (r"POST /api/models/([^/]+/[^/]+)/commit/([^/]+)", _Handler._commit),
    )
]
