"""A double of the Hugging Face hub's HTTP interface, since no hub can be reached from the tests.

It knows what huggingface_hub asks for here: the listing with its pages, a model at a revision, and files.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 2


@dataclass
class FakeHub:
    """Repositories by id, each with its commits from old to new, and everything that was asked for."""

    url: str = ""
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    said: dict[str, object] = field(default_factory=dict)
    """Fields of a model's description that are told instead of the true ones."""
    broken: set[str] = field(default_factory=set)
    """Names of files that cannot be downloaded now."""
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def push(self, repo: str, files: Mapping[str, bytes], *tags: str) -> str:
        """Makes a commit; returns its name."""
        content = b"".join(name.encode() + data for name, data in files.items())
        commit = hashlib.sha1(repo.encode() + content).hexdigest()
        self.commits.setdefault(repo, {})[commit] = dict(files)
        self.tags[repo] = ["peft", *tags]
        return commit

    def downloads(self) -> list[str]:
        """The names of the files that were downloaded."""
        return [
            path.rpartition("/")[2] for method, path, _ in self.asked if method == "GET" and "/resolve/" in path
        ]

    def commit_of(self, repo: str, revision: str) -> str | None:
        known = self.commits[repo]
        return next(reversed(known)) if revision == "main" else revision if revision in known else None


class Answer(Exception):
    """What to answer."""

    def __init__(self, status: int, body: object = b"", **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Runs one on loopback."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self) -> None:
            hub.asked.append(
                (self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
            )
            try:
                _answer(hub, self.command, self.path)
            except Answer as answer:
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(answer.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(hub: FakeHub, method: str, target: str) -> None:
    """Raises the answer to a request."""
    split = urlsplit(target)
    path, query = unquote(split.path), parse_qs(split.query)
    if path == "/api/models":
        _list(hub, query)
    if path.startswith("/api/models/"):
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        commit = _commit(hub, repo, revision or "main")
        files = hub.commits[repo][commit]
        siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
        raise Answer(200, {"id": repo, "sha": commit, "siblings": siblings, "tags": hub.tags[repo], **hub.said})
    repo, _, rest = path.strip("/").partition("/resolve/")
    revision, _, name = rest.partition("/")
    commit = _commit(hub, repo, revision)
    data = hub.commits[repo][commit].get(name)
    if data is None:
        raise Answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
    if method == "GET" and name in hub.broken:
        raise Answer(403, b"not now")
    raise Answer(200, data, X_Repo_Commit=commit, ETag=f'"{hashlib.sha1(data).hexdigest()}"')


def _commit(hub: FakeHub, repo: str, revision: str) -> str:
    if repo not in hub.commits:
        raise Answer(401, X_Error_Code="RepoNotFound")
    commit = hub.commit_of(repo, revision)
    if commit is None:
        raise Answer(404, X_Error_Code="RevisionNotFound")
    return commit


def _list(hub: FakeHub, query: Mapping[str, list[str]]) -> None:
    wanted = set(query.get("filter", []))
    found = [repo for repo in hub.commits if wanted <= set(hub.tags[repo])]
    start = int(query.get("start", ["0"])[0])
    page = [{"id": repo, "tags": hub.tags[repo]} for repo in found[start : start + PAGE]]
    links = {}
    if start + PAGE < len(found):
        following = "&".join(f"filter={tag}" for tag in wanted)
        links["Link"] = f'<{hub.url}/api/models?{following}&start={start + PAGE}>; rel="next"'
    raise Answer(200, page, **links)
