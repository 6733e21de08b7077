"""
A Hub on the loopback interface: the part of its HTTP protocol that huggingface_hub, diffusers and datasets use.

The clients are the real ones, in subprocesses started with `LoopbackHub.environment`. Repositories live in memory, so
that a test can look at what arrived. Source: the requests of huggingface_hub 2.4 and https://huggingface.co/docs/hub/api.
"""

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class File:
    """A version of a file: a small one goes by the SHA-1 that Git gives it, a large one by its SHA-256."""

    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        if self.large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    message: str
    parent: "Commit | None"
    files: dict[str, File]

    @property
    def oid(self) -> str:
        tree = [(path, file.oid) for path, file in self.files.items()]
        return hashlib.sha1(repr((self.message, self.parent and self.parent.oid, tree)).encode()).hexdigest()


@dataclass
class Repository:
    """A model or a data set, from its first, empty commit on."""

    owner: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large_files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", "initial commit", {})

    def commit(self, branch: str, message: str, files: dict[str, File]) -> str:
        commit = Commit(message, self.at(branch), files)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit.oid

    def at(self, revision: str = "main") -> Commit | None:
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Give the content of every file."""
        return {path: file.content for path, file in self.at(revision).files.items()}

    def history(self, revision: str = "main") -> list[str]:
        """Give the messages of the commits up to a revision."""
        commit = self.at(revision)
        return [*(self.history(commit.parent.oid) if commit.parent else []), commit.message]


@dataclass
class Pause:
    """`reached` is set when a request has come there; `cut` loses its connection."""

    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    cut: bool = False


class LoopbackHub(ThreadingHTTPServer):
    """
    The server, for a `with` block.

    Args:
        tokens (`dict`): The user that each token stands for. A user may write to `user/...`.

    Attributes: `repositories`, by `"models/user/name"` and `"datasets/user/name"`; `requests`, as `"METHOD /path"`.
    """

    def __init__(self, tokens: dict[str, str]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []
        self.pauses: dict[str, Pause] = {}
        self.lock = threading.Lock()

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.shutdown()
        self.server_close()

    @contextmanager
    def pause(self, place: str) -> Iterator["Pause"]:
        """
        Stop the next request that comes to `place`: `"upload"` is in the middle of a large file, `"commit"` is when a
        commit is carried out and the client does not know it yet. At the end of the `with` block it goes on.
        """
        pause = self.pauses[place] = Pause()
        try:
            yield pause
        finally:
            pause.over.set()

    def pause_at(self, place: str) -> None:
        if pause := self.pauses.pop(place, None):
            pause.reached.set()
            pause.over.wait()
            if pause.cut:
                raise ConnectionError("the connection was cut")

    def environment(self, home: str | os.PathLike, token: str | None = None) -> dict[str, str]:
        """Give the environment of a client that keeps its cache in `home`."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        switches = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}
        identity = {"HF_TOKEN": token} if token else {}
        return inherited | switches | identity | {"HF_ENDPOINT": self.url, "HF_HOME": str(home)}


class _Refusal(Exception):
    """An answer with an error status; of its `code` the client makes a typed error."""

    def __init__(self, status: int, message: str, code: str = ""):
        self.status, self.headers = status, {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        self.hub: LoopbackHub = self.server
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        self.query = parse_qs(url.query)
        method = "GET" if self.command == "HEAD" else self.command
        try:
            self.body = b"".join(self.read_body())
            for route_method, pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and method == route_method:
                    parts = {name: unquote(part or "") for name, part in match.groupdict().items()}
                    answer(self, **(self.find_repository(**parts) if "name" in parts else parts))
                    return
            raise _Refusal(404, "No such endpoint")
        except _Refusal as refusal:
            self.answer({"error": refusal.headers["X-Error-Message"]}, refusal.status, refusal.headers)
        except ConnectionError:  # the client was killed
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *_) -> None:
        pass

    def read_body(self) -> Iterator[bytes]:
        assert "Transfer-Encoding" not in self.headers
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            part = self.rfile.read(min(left, 16384))
            if not part:
                raise ConnectionError("the client went away in the middle of a request")
            left -= len(part)
            yield part
            if self.command == "PUT":
                self.hub.pause_at("upload")

    def answer(self, value, status: int = 200, headers: dict | None = None) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def find_repository(self, kind: str, name: str, revision: str = "", **parts: str) -> dict[str, str]:
        """Look up what the address names, for whoever asks, and give the rest of it."""
        self.key, self.name, self.revision = f"{kind or 'models'}/{name}", name, revision or "main"
        repository, user = self.hub.repositories.get(self.key), self.user()
        if repository is None or (repository.private and user != repository.owner):
            raise _Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if self.command == "POST" and user != repository.owner:
            raise _Refusal(403 if user else 401, f"Only {repository.owner} may write to {name}")
        self.repository, self.commit = repository, repository.at(self.revision)
        if self.commit is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return parts

    def create(self) -> None:
        wanted, user = json.loads(self.body), self.user()
        kind, name = f"{wanted.get('type') or 'model'}s", f"{wanted.get('organization') or user}/{wanted['name']}"
        if user is None or not name.startswith(f"{user}/"):
            raise _Refusal(403 if user else 401, f"No right to create {name}")
        key, page = f"{kind}/{name}", name if kind == "models" else f"{kind}/{name}"
        status = 409 if key in self.hub.repositories else 200
        self.hub.repositories.setdefault(key, Repository(user, wanted.get("visibility") == "private"))
        self.answer({"url": f"{self.hub.url}/{page}"}, status)

    def info(self) -> None:
        siblings = [{"rfilename": path} for path in sorted(self.commit.files)]
        values = {"id": self.name, "sha": self.commit.oid, "private": self.repository.private, "siblings": siblings}
        self.answer({**values, "tags": [], "gated": False, "lastModified": "2026-01-01T00:00:00.000Z"})

    def refs(self) -> None:
        branches, tags = (
            [{"name": ref, "ref": f"refs/{sort}/{ref}", "targetCommit": oid} for ref, oid in refs.items()]
            for sort, refs in (("heads", self.repository.branches), ("tags", self.repository.tags))
        )
        self.answer({"branches": branches, "tags": tags, "converts": []})

    def create_branch(self, branch: str) -> None:
        self.commit = self.repository.at(json.loads(self.body).get("startingPoint") or "main")
        self.create_ref(self.repository.branches, branch)

    def create_tag(self) -> None:
        self.create_ref(self.repository.tags, json.loads(self.body)["tag"])

    def create_ref(self, refs: dict[str, str], name: str) -> None:
        if name in refs:
            raise _Refusal(409, f"Reference already exists: {name}")
        refs[name] = self.commit.oid
        self.answer({})

    def tree(self, folder: str) -> None:
        recursive = self.query.get("recursive", [""])[0].lower() == "true"
        entries, prefix = {}, f"{folder}/" if folder else ""
        for path, file in self.commit.files.items():
            if path.startswith(prefix):
                child, below, _ = path.removeprefix(prefix).partition("/")
                entry = {"type": "file", "oid": file.oid[:40], "size": len(file.content), "path": path}
                if file.large:
                    entry["lfs"] = {"oid": file.oid, "size": len(file.content), "pointerSize": 130}
                if below and not recursive:
                    entry = {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + child}
                entries[entry["path"]] = entry
        if folder and not entries:
            raise _Refusal(404, f"{folder} does not exist", "EntryNotFound")
        self.answer(list(entries.values()))

    def resolve(self, path: str) -> None:
        if path not in self.commit.files:
            raise _Refusal(404, "Entry not found", "EntryNotFound")
        file = self.commit.files[path]
        headers = {"X-Repo-Commit": self.commit.oid, "ETag": f'"{file.oid}"'}
        if file.large:
            # To another host, as to the real Hub's storage: the client reads the headers, and leaves its token here.
            location = f"http://localhost:{self.hub.server_port}/storage/{self.key}/{file.oid}"
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(file.content))}
            self.answer(b"", 302, {"Location": location, **linked, **headers})
        else:
            self.answer(file.content, 200, headers)

    def storage(self, key: str, oid: str) -> None:
        content, status, headers = self.hub.repositories[key].large_files[oid], 200, {"Accept-Ranges": "bytes"}
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, size, status = int(span[1]), len(content), 206
            content = content[start : int(span[2] or size) + 1]
            headers["Content-Range"] = f"bytes {start}-{start + len(content) - 1}/{size}"
            if not content:
                raise _Refusal(416, f"The file has {size} bytes")
        self.answer(content, status, headers)

    def preupload(self) -> None:
        files, present = [], self.commit.files
        for asked in json.loads(self.body)["files"]:
            path, mode = asked["path"], "lfs" if b"\0" in base64.b64decode(asked["sample"]) else "regular"
            known = {"oid": present[path].oid} if path in present else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        self.answer({"files": files})

    def large_file_batch(self) -> None:
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.hub.url}/upload/{self.key}/{wanted['oid']}"
            present = wanted["oid"] in self.repository.large_files
            objects.append(wanted if present else {**wanted, "actions": {"upload": {"href": href}}})
        self.answer({"transfer": "basic", "objects": objects})

    def upload(self, key: str, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Refusal(400, "The content does not have the announced SHA-256")
        self.hub.repositories[key].large_files[oid] = self.body
        self.answer({})

    def create_commit(self) -> None:
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        with self.hub.lock:
            parent = self.repository.at(self.revision)
            if header["value"].get("parentCommit") not in (None, parent.oid):
                raise _Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = dict(parent.files)
            for operation in operations:
                value = operation["value"]
                if operation["key"] == "file":
                    files[value["path"]] = File(base64.b64decode(value["content"]), large=False)
                elif operation["key"] == "lfsFile":
                    files[value["path"]] = File(self.repository.large_files[value["oid"]], large=True)
                elif operation["key"] == "deletedFile":
                    del files[value["path"]]
            oid = self.repository.commit(self.revision, header["value"]["summary"], files)
        self.hub.pause_at("commit")
        self.answer({"commitOid": oid, "commitUrl": f"{self.hub.url}/{self.key.removeprefix('models/')}/commit/{oid}"})


_API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
_PAGE = r"/(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+?)"
_ROUTES = (
    ("POST", "/api/validate-yaml", lambda handler: handler.answer({"errors": [], "warnings": []})),
    ("POST", "/api/repos/create", _Handler.create),
    ("GET", rf"{_API}(?:/revision/(?P<revision>[^/]+))?", _Handler.info),
    ("GET", rf"{_API}/refs", _Handler.refs),
    ("POST", rf"{_API}/branch/(?P<branch>[^/]+)", _Handler.create_branch),
    ("POST", rf"{_API}/tag/(?P<revision>[^/]+)", _Handler.create_tag),
    ("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", _Handler.tree),
    ("POST", rf"{_API}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"{_API}/commit/(?P<revision>[^/]+)", _Handler.create_commit),
    ("POST", rf"{_PAGE}\.git/info/lfs/objects/batch", _Handler.large_file_batch),
    ("PUT", r"/upload/(?P<key>[^/]+/[^/]+/[^/]+)/(?P<oid>\w+)", _Handler.upload),
    ("GET", r"/storage/(?P<key>[^/]+/[^/]+/[^/]+)/(?P<oid>\w+)", _Handler.storage),
    ("GET", rf"{_PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
)
