"""Kubernetes with the KubeRay operator: a RayJob, by kubectl, in its current context and namespace."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from sweep import target
from sweep.target import Job, answer, cluster_file

MANIFEST = "kuberay/rayjob.yaml"
OVER = {"Complete", "Failed", "ValidationFailed"}
PLACEHOLDER = "IMAGE"
SAFE = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")


class Target(target.Target):
    def shown(self, job: Job) -> str:
        return yaml.safe_dump(_manifest(job), sort_keys=False, width=120)

    def send(self, job: Job) -> str:
        if any(name == PLACEHOLDER for name in _images(_manifest(job))):
            raise ValueError(
                f"conf/cluster/{MANIFEST} does not name your image yet; copy it to ./conf/cluster/{MANIFEST}, and put "
                f"what you built there in place of {PLACEHOLDER}"
            )
        try:
            answer("kubectl", "create", "--filename", "-", given=self.shown(job))
        except OSError as error:
            raise ValueError(
                f"Kubernetes does not take the RayJob ({error}); see 'kubectl auth can-i create rayjobs'"
            ) from None
        return job.id

    def is_over(self, handle: str) -> bool:
        try:
            found = json.loads(answer("kubectl", "get", "rayjob", handle, "--output", "json"))
        except OSError as error:
            if "NotFound" in str(error):
                return True
            raise
        return found.get("status", {}).get("jobDeploymentStatus") in OVER


def _manifest(job: Job) -> dict[str, Any]:
    """Raises ValueError when the command has a character that the shells on its way could read as one of theirs."""
    for word in job.command:
        if not SAFE.fullmatch(word):
            raise ValueError(
                f"KubeRay passes a command through several shells, and {word!r} may not survive that; rename it"
            )
    # By JSON, lest the YAML that is sent have names of the program's own for what stands in it twice.
    manifest: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(cluster_file(MANIFEST))))
    manifest["metadata"]["name"] = job.id
    manifest["spec"]["entrypoint"] = shlex.join(job.command)
    return manifest


def _images(node: Any) -> Iterator[object]:
    """Of all containers, however deep."""
    if isinstance(node, dict) and "image" in node:
        yield node["image"]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _images(child)
