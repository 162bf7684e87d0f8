"""A Kubernetes API server's read side, for kubectl: discovery, GET, LIST, WATCH of given objects.

None is in a package registry, so this stands in: it tells which kinds there are, and gives objects
back as they were put in. It validates nothing; schemas are checked elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Group/version → kind → plural; cluster-wide ones are in WIDE
KINDS: dict[str, dict[str, str]] = {
    "v1": {"ConfigMap": "configmaps", "ServiceAccount": "serviceaccounts",
           "PersistentVolumeClaim": "persistentvolumeclaims", "Pod": "pods"},
    "apps/v1": {"DaemonSet": "daemonsets", "Deployment": "deployments"},
    "batch/v1": {"CronJob": "cronjobs"},
    "rbac.authorization.k8s.io/v1": {
        "Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles",
        "ClusterRoleBinding": "clusterrolebindings",
    },
    "autoscaling.k8s.io/v1": {"VerticalPodAutoscaler": "verticalpodautoscalers"},
    "monitoring.coreos.com/v1": {"PrometheusRule": "prometheusrules"},
}  # fmt: skip
WIDE = ("ClusterRole", "ClusterRoleBinding")
Object = dict[str, Any]


def discovery(path: str) -> Object | None:
    """Give what clients ask first: groups, and the kinds of each."""
    if path == "/version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        named = [version.split("/") for version in KINDS if "/" in version]
        groups = [
            {"name": group, "versions": [one := {"groupVersion": f"{group}/{v}", "version": v}],
             "preferredVersion": one}
            for group, v in named
        ]  # fmt: skip
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in KINDS:
        return None
    resources = [
        {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": kind not in WIDE,
         "verbs": ["create", "get", "list", "patch", "watch"]}
        for kind, plural in KINDS[version].items()
    ]  # fmt: skip
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
            "resources": resources}  # fmt: skip


def found(objects: Sequence[Object], path: str) -> tuple[str, str | None, list[Object]] | None:
    """Give kind, asked name and objects of a path such as /apis/apps/v1/namespaces/a/daemonsets."""
    for version, kinds in KINDS.items():
        root = f"/apis/{version}/" if "/" in version else f"/api/{version}/"
        if not path.startswith(root):
            continue
        parts = path.removeprefix(root).split("/")
        parts = parts[2:] if parts[0] == "namespaces" else parts
        for kind, plural in kinds.items():
            if parts and parts[0] == plural:
                own = [o for o in objects if (o["apiVersion"], o["kind"]) == (version, kind)]
                name = parts[1] if len(parts) > 1 else None
                return kind, name, [o for o in own if name in (None, o["metadata"]["name"])]
    return None


@contextmanager
def api_server(objects: Sequence[Object], folder: Path) -> Iterator[Path]:
    """Serve objects on this machine; give the kubeconfig that leads there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            known = discovery(asked.path)
            if known is not None:
                return self.answer(200, known)
            told = found(objects, asked.path)
            query = parse_qs(asked.query)
            if told is None or (told[1] is not None and not told[2]):
                missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                           "reason": "NotFound", "message": f"no {asked.path}"}  # fmt: skip
                return self.answer(404, missing)
            kind, name, own = told
            if "watch" in query:
                lines = "".join(json.dumps({"type": "ADDED", "object": o}) + "\n" for o in own)
                return self.answer(200, lines)
            if name is not None:
                return self.answer(200, own[0])
            version = "v1" if asked.path.startswith("/api/") else asked.path.split("/", 2)[2]
            group = version if version == "v1" else "/".join(version.split("/")[:2])
            whole = {"kind": f"{kind}List", "apiVersion": group, "items": own,
                     "metadata": {"resourceVersion": "1"}}  # fmt: skip
            return self.answer(200, whole)

        def answer(self, code: int, body: Any) -> None:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": cluster}], "users": [{"name": "t", "user": {}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
    }))  # fmt: skip
    try:
        yield config
    finally:
        server.shutdown()
        server.server_close()
