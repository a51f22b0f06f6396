"""`cluster.yaml`, what the Compute API says of itself, and a Google to talk to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

CLUSTER = Path(__file__).parents[3] / "cluster.yaml"

Config = dict[str, Any]


@pytest.fixture(scope="session")
def cluster() -> Config:
    loaded: Config = yaml.safe_load(CLUSTER.read_text())
    return loaded


@pytest.fixture(scope="session")
def schemas() -> Config:
    documents = pytest.importorskip("googleapiclient.discovery_cache.documents")
    folder = Path(next(iter(documents.__path__)))
    found: Config = json.loads((folder / "compute.v1.json").read_text())["schemas"]
    return found


class FakeGoogle:
    """Google's endpoints at the level of HTTP: it keeps the machines that it was asked for."""

    def __init__(self, project: str, zone: str, network: str = "default") -> None:
        self.inserted: list[Config] = []
        self.policies: list[Config] = []
        base = rf"/compute/v1/projects/{project}"
        account = f"/v1/projects/{project}/serviceAccounts"
        self._routes: list[tuple[str, str, Callable[[Config], tuple[int, Config]]]] = [
            (
                "GET",
                rf"/v1/projects/{project}",
                self._say(projectId=project, lifecycleState="ACTIVE"),
            ),
            ("POST", rf"/v1/projects/{project}:getIamPolicy", self._say(bindings=[])),
            ("POST", rf"/v1/projects/{project}:setIamPolicy", self._keep_policy),
            ("GET", rf"{account}/.+", lambda _: (404, {})),
            ("POST", account, lambda body: (200, self._account(project, body["accountId"]))),
            ("GET", base, self._say(name=project, commonInstanceMetadata={"kind": network})),
            ("POST", rf"{base}/setCommonInstanceMetadata", self._say(name="keys")),
            ("GET", rf"{base}/global/operations/keys", self._say(status="DONE")),
            ("POST", rf"{base}/zones/{zone}/instances", self._insert),
            ("GET", rf"{base}/zones/{zone}/instances", self._list),
            ("GET", rf"{base}/zones/{zone}/operations/insert", self._say(status="DONE")),
        ]

    def request(self, uri: str, method: str, body: Any) -> tuple[Any, bytes]:
        from httplib2 import Response

        path = urlsplit(uri).path
        for known, pattern, answer in self._routes:
            if method == known and re.fullmatch(pattern, path):
                status, found = answer(json.loads(body) if body else {})
                return Response({"status": str(status)}), json.dumps(found).encode()
        raise AssertionError(f"nobody expected {method} {path}")

    @staticmethod
    def _say(**answer: Any) -> Callable[[Config], tuple[int, Config]]:
        return lambda _: (200, answer)

    @staticmethod
    def _account(project: str, name: str) -> Config:
        return {"projectId": project, "email": f"{name}@{project}.iam.gserviceaccount.com"}

    def _keep_policy(self, body: Config) -> tuple[int, Config]:
        self.policies.append(body["policy"])
        return 200, body["policy"]

    def _insert(self, body: Config) -> tuple[int, Config]:
        self.inserted.append(body)
        return 200, {"name": "insert"}

    def _list(self, _: Config) -> tuple[int, Config]:
        return 200, {"items": [{**body, "status": "RUNNING"} for body in self.inserted]}


@pytest.fixture
def google(cluster: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeGoogle:
    """The real client library, with its transport exchanged."""
    pytest.importorskip("googleapiclient")
    import httplib2

    fake = FakeGoogle(cluster["provider"]["project_id"], cluster["provider"]["availability_zone"])

    class Http(httplib2.Http):  # type: ignore[misc, unused-ignore]  # foreign, untyped
        def request(
            self, uri: str, method: str = "GET", body: Any = None, **_: Any
        ) -> tuple[Any, bytes]:
            return fake.request(uri, method, body)

    monkeypatch.setattr(httplib2, "Http", Http)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a key pair to ~/.ssh
    return fake
