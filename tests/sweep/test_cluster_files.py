"""The files of `conf/cluster/`: their readers take them, and each avoids what clusters are known to fail by."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.contracts.test_extension import ROOT

FOLDER = ROOT / "conf" / "cluster"
SCRIPTS = sorted([*FOLDER.rglob("*.sh"), *FOLDER.rglob("*.sbatch")])
MANIFESTS = sorted(FOLDER.rglob("*.yaml"))
TEXTS = sorted(path for path in FOLDER.rglob("*") if path.is_file())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def named(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def values(node: Any) -> Iterator[Any]:
    """All mappings at any depth."""
    if isinstance(node, Mapping):
        yield node
    for child in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from values(child)


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_a_script_is_one(path: Path) -> None:
    shell = path.read_text().splitlines()[0].rpartition("/")[2].rpartition(" ")[2]
    done = subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^set -eu", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_no_file_has_a_secret_or_opens_a_port_to_all(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"dashboard-host[=: ]+\W*(0\.0\.0\.0|::)", text)
    assert not re.search(r"(PASSWORD|TOKEN|SECRET_KEY|password|secret-key)[=:] *['\"]?[A-Za-z0-9]{6,}", text)
    assert "RAY_AUTH_MODE=disabled" not in text
    assert ("0.0.0.0" in text) == (named(path) == "mlflow/serve.sh")  # a container's own, see its comment


@pytest.mark.parametrize("path", [path for path in TEXTS if "ray start" in path.read_text()], ids=named)
def test_wherever_ray_is_started_the_token_is_on(path: Path) -> None:
    text = path.read_text()
    if path.parent.name != "ray-up":
        assert "RAY_AUTH_MODE=token" in text
        return
    # Each command has a shell of its own.
    starts = [line for line in yaml.safe_load(text)["head_start_ray_commands"] if "ray start" in line]
    starts += [line for line in yaml.safe_load(text)["worker_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line.partition("ray start")[0] for line in starts)


@pytest.mark.parametrize("name", ["on-premises", "aws"])
def test_ray_up_takes_its_files(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = documents(f"ray-up/{name}.yaml")[0]
    head = shlex.split(config["head_start_ray_commands"][1])
    assert {"--num-cpus=0", "--num-gpus=0", "--dashboard-host=127.0.0.1"} <= set(head)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    workers = [
        each for name, each in config.get("available_node_types", {}).items() if name != config["head_node_type"]
    ]
    assert all(each["min_workers"] > 0 for each in workers), "a sweep would find a head, which takes no trial"
    validate_config(prepare_config(config))


def test_on_premises_a_disk_that_is_not_mounted_is_noticed() -> None:
    [check] = [line for line in documents("ray-up/on-premises.yaml")[0]["setup_commands"] if "mountpoint" in line]
    done = subprocess.run(
        ["bash", "-c", check.replace("/shared", "/nowhere")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "/nowhere is not mounted on " in done.stdout


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_kuberay_clusters(name: str) -> None:
    [manifest] = documents(f"kuberay/{name}.yaml")
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    locked = dict(line.strip().split("==") for line in (ROOT / "requirements.lock").read_text().splitlines()[1:])
    assert spec["rayVersion"] == locked["ray"]
    assert spec["authOptions"] == {"mode": "token"}
    head, [workers] = spec["headGroupSpec"], spec["workerGroupSpecs"]
    assert {"num-cpus": "0", "num-gpus": "0"}.items() <= head["rayStartParams"].items()
    for pod in (head["template"]["spec"], workers["template"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        [container] = pod["containers"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        assert container["lifecycle"]["preStop"]["exec"]["command"][-1] == "ray stop"
        assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "sweep"}
    if name == "rayjob":
        assert manifest["spec"]["backoffLimit"] > 0
        assert manifest["spec"]["shutdownAfterJobFinishes"] is True
        assert {"ttlSecondsAfterFinished", "activeDeadlineSeconds", "submissionMode"} <= manifest["spec"].keys()
    else:
        assert head["rayStartParams"]["dashboard-host"] == "127.0.0.1"


@pytest.mark.parametrize("path", [path for path in MANIFESTS if path.parent.name == "kuberay"], ids=named)
def test_kubernetes_takes_its_manifests(path: Path) -> None:
    """By its own schemas; of what is KubeRay's, the pods."""
    checked = 0
    for manifest in documents(named(path)):
        if not manifest["apiVersion"].startswith("ray.io/"):
            kubernetes_validate.validate(manifest, "1.33", strict=True)
            checked += 1
            continue
        spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **group["template"]}, "1.33", strict=True)
            checked += 1
    assert checked >= 2


def test_what_the_pods_share_is_of_a_class_for_many() -> None:
    policy, claim = documents("kuberay/network.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert policy["spec"]["podSelector"]["matchExpressions"] == [{"key": "ray.io/cluster", "operator": "Exists"}]


@pytest.mark.parametrize("path", [path for path in MANIFESTS if path.parent.name == "kuberay"], ids=named)
def test_secrets_come_from_secrets(path: Path) -> None:
    for node in values(documents(named(path))):
        name = str(node.get("name", ""))
        if "value" in node and re.search("PASSWORD|TOKEN|SECRET|KEY", name):
            pytest.fail(f"{name} is written out")


def hosts(text: str) -> set[str]:
    return set(text.split(","))


def test_mlflow_answers_to_each_of_its_names_with_the_port_and_without() -> None:
    [deployment] = [each for each in documents("kuberay/mlflow.yaml") if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    compose = documents("mlflow/compose.yaml")[0]["services"]["mlflow"]
    assert hosts(environment["ALLOWED_HOSTS"]) >= {"mlflow", "mlflow:5000", "127.0.0.1", "127.0.0.1:5000"}
    assert hosts(compose["environment"]["ALLOWED_HOSTS"]) >= {"localhost", "localhost:5000"}
    assert compose["ports"] == ["127.0.0.1:5000:5000"]
    for service in documents("mlflow/compose.yaml")[0]["services"].values():
        for name, text in service["environment"].items():
            assert "PASSWORD" not in name or text == f"${{{name}:?}}"


def test_the_image_has_what_is_locked_and_no_root() -> None:
    text = (FOLDER / "image" / "Dockerfile").read_text()
    assert "requirements.lock" in text
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert "RAY_AUTH_MODE=token" in text
    # Ray's jobs API, PostgreSQL and MLflow's passwords are silently not there without.
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert locked >= {"aiohttp-cors", "grpcio", "opencensus", "psycopg-binary", "Flask-WTF"}


def test_the_batch_script_of_slurm() -> None:
    text = (FOLDER / "slurm" / "sweep.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert options["signal"].startswith("B:TERM@")
    assert {"requeue", "open-mode", "output", "time", "nodes"} <= options.keys()
    # A job's block of ports: two jobs of one node have others, and all are below those that the system gives out.
    bases = {}
    for job in (1, 2, 49, 50, 123456):
        shown = subprocess.run(
            ["bash", "-c", re.search(r"^base=.*$", text, re.MULTILINE)[0] + "\necho $base"],  # type: ignore[index]
            env={**os.environ, "SLURM_JOB_ID": str(job)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        bases[job] = int(shown.stdout)
    assert bases[1] != bases[2]
    assert all(base >= 10000 and base + 399 < 32768 for base in bases.values())
    assert "--include-dashboard=false" in text
