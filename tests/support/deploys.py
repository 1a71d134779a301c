"""What makers of deployments post, rebuilt from their documentation, with the fields that tests turn."""

from __future__ import annotations

SHA = "6f2ae2c3d2a1f0b9e8d7c6b5a4938271605f4e3d"


def _repository(name: str) -> dict[str, object]:
    return {
        "id": 17273051,
        "name": name,
        "full_name": f"acme/{name}",
        "private": True,
        "owner": {"login": "acme", "id": 38302899, "type": "Organization"},
        "html_url": f"https://github.com/acme/{name}",
        "default_branch": "main",
    }


def github_deployment(**changed: object) -> dict[str, object]:
    """A deployment as all of GitHub's webhooks about one show it (docs: webhook events and payloads, `deployment`)."""
    return {
        "url": "https://api.github.com/repos/acme/checkout/deployments/145988746",
        "id": 145988746,
        "node_id": "MDEwOkRlcGxveW1lbnQxNDU5ODg3NDY=",
        "sha": SHA,
        "ref": "v2.4.1",
        "task": "deploy",
        "payload": {},
        "original_environment": "production",
        "environment": "production",
        "description": None,
        "creator": {"login": "octocat", "id": 21031067, "type": "User"},
        "created_at": "2023-11-14T22:12:00Z",
        "updated_at": "2023-11-14T22:12:50Z",
        "transient_environment": False,
        "production_environment": True,
    } | changed


def github_status(repository: str = "checkout", state: str = "success", **deployment: object) -> dict[str, object]:
    """`X-GitHub-Event: deployment_status` (docs: webhook events and payloads)."""
    return {
        "action": "created",
        "deployment_status": {
            "url": "https://api.github.com/repos/acme/checkout/deployments/145988746/statuses/209916254",
            "id": 209916254,
            "state": state,
            "creator": {"login": "octocat", "id": 21031067, "type": "User"},
            "description": "",
            "environment": deployment.get("environment", "production"),
            "target_url": "",
            "created_at": "2023-11-14T22:13:00Z",
            "updated_at": "2023-11-14T22:13:00Z",
        },
        "deployment": github_deployment(**deployment),
        "check_run": None,
        "workflow": None,
        "workflow_run": None,
        "repository": _repository(repository),
        "sender": {"login": "octocat", "id": 21031067, "type": "User"},
    }


def github_created(repository: str = "checkout", **deployment: object) -> dict[str, object]:
    """`X-GitHub-Event: deployment` (docs: webhook events and payloads)."""
    return {"action": "created", "deployment": github_deployment(**deployment), "repository": _repository(repository)}


def github_run(repository: str = "checkout", **run: object) -> dict[str, object]:
    """`X-GitHub-Event: workflow_run` (docs: webhook events and payloads)."""
    return {
        "action": "completed",
        "workflow_run": {
            "id": 7203401234,
            "name": "Deploy",
            "head_branch": "main",
            "head_sha": SHA,
            "run_number": 562,
            "event": "push",
            "status": "completed",
            "conclusion": "success",
            "workflow_id": 159038,
            "run_attempt": 1,
            "created_at": "2023-11-14T22:10:00Z",
            "updated_at": "2023-11-14T22:13:00Z",
            "run_started_at": "2023-11-14T22:10:00Z",
        }
        | run,
        "workflow": {"id": 159038, "name": "Deploy", "path": ".github/workflows/deploy.yml", "state": "active"},
        "repository": _repository(repository),
    }


def gitlab(project: str = "checkout", **changed: object) -> dict[str, object]:
    """A deployment event (docs.gitlab.com: webhook events, deployment events)."""
    address = f"https://gitlab.example.com/acme/{project}"
    return {
        "object_kind": "deployment",
        "status": "success",
        "status_changed_at": "2023-11-14 23:13:00 +0100",
        "deployment_id": 15,
        "deployable_id": 796,
        "deployable_url": f"{address}/-/jobs/796",
        "environment": "production",
        "environment_tier": "production",
        "environment_slug": "production",
        "environment_external_url": "https://shop.example.com",
        "project": {
            "id": 30,
            "name": project,
            "description": "",
            "web_url": address,
            "namespace": "acme",
            "path_with_namespace": f"acme/{project}",
            "default_branch": "main",
        },
        "short_sha": SHA[:8],
        "user": {"id": 1, "name": "Administrator", "username": "root"},
        "commit_url": f"{address}/-/commit/{SHA}",
        "commit_title": "Add new file",
        "ref": "main",
    } | changed


def flux(name: str = "checkout", kind: str = "HelmRelease", **changed: object) -> dict[str, object]:
    """An event (fluxcd.io: notification providers, generic webhook)."""
    return {
        "involvedObject": {
            "kind": kind,
            "namespace": "shop",
            "name": name,
            "uid": "7d0cdc51-ddcf-4743-b223-83ca5c699632",
            "apiVersion": "helm.toolkit.fluxcd.io/v2",
            "resourceVersion": "4711",
        },
        "severity": "info",
        "timestamp": "2023-11-14T22:13:00Z",
        "message": "Helm upgrade succeeded for release shop/checkout.v8 with chart checkout@6.5.1",
        "reason": "UpgradeSucceeded",
        "metadata": {"helm.toolkit.fluxcd.io/revision": "6.5.1", "helm.toolkit.fluxcd.io/token": "sha256:0a1b"},
        "reportingController": "helm-controller",
        "reportingInstance": "helm-controller-7fcb6b6b6-abcde",
    } | changed


def argocd(app: str = "checkout", **changed: object) -> dict[str, object]:
    """What the template of docs/webhooks/argocd.md writes."""
    return {
        "app": app,
        "phase": "Succeeded",
        "revision": SHA,
        "namespace": "argocd",
        "project": "shop",
        "destination": "shop",
        "images": ["registry.example.com:5000/acme/checkout:v2.4.1", "envoyproxy/envoy:v1.31.0"],
        "startedAt": "2023-11-14T22:12:00Z",
        "finishedAt": "2023-11-14T22:13:00Z",
    } | changed
