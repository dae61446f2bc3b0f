"""The jobs for Kubernetes: fields that it knows, commands that exist, volumes and restarts with which a job goes on.

No cluster is asked. Where kubernetes-validate is installed, its schemas are.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

import se_nas
from se_nas.search.result import STUDY_NAME
from tests.helpers.command_lines import parse

FILES = sorted((Path(__file__).resolve().parents[2] / "clusters" / "kubernetes").glob("*.yaml"))
RESOURCES: list[dict[str, Any]] = [one for path in FILES for one in yaml.safe_load_all(path.read_text())]
JOBS = {one["metadata"]["name"]: one["spec"] for one in RESOURCES if one["kind"] == "Job"}
CLAIMS = {one["metadata"]["name"] for one in RESOURCES if one["kind"] == "PersistentVolumeClaim"}
# https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/ and pod-v1/, as far as they are used
JOB_FIELDS = {"completionMode", "completions", "parallelism", "backoffLimit", "template"}
POD_FIELDS = {
    *("subdomain", "restartPolicy", "terminationGracePeriodSeconds", "automountServiceAccountToken"),
    *("securityContext", "initContainers", "containers", "volumes"),
}
CONTAINER_FIELDS = {"name", "image", "command", "args", "env", "resources", "securityContext", "volumeMounts"}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = JOBS[name]["template"]["spec"]
    return found


def words(container: dict[str, Any]) -> list[str]:
    """What of a container's command is se-nas's."""
    args: list[str] = container["args"]
    return args[args.index("se_nas") + 1 :] if "command" in container else args


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_a_resource_keeps_the_schema_of_its_kind(resource: dict[str, Any]) -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    schemas.validate(resource, schemas.latest_version(), strict=True)


def test_there_are_a_retraining_a_search_and_its_workers() -> None:
    assert set(JOBS) == {"se-nas-retrain", "se-nas-search", "se-nas-worker"}
    assert {one["apiVersion"] for one in RESOURCES if one["kind"] == "Job"} == {"batch/v1"}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_only_fields_that_it_may_have(name: str) -> None:
    assert set(JOBS[name]) <= JOB_FIELDS
    assert set(pod(name)) <= POD_FIELDS
    for container in (*pod(name)["containers"], *pod(name).get("initContainers", ())):
        assert set(container) <= CONTAINER_FIELDS


@pytest.mark.parametrize("name", JOBS)
def test_a_job_goes_on_after_a_failure_with_the_folder_that_it_began(name: str) -> None:
    assert pod(name)["restartPolicy"] == "OnFailure"
    assert JOBS[name]["backoffLimit"] >= 10
    (container,) = pod(name)["containers"]
    command = words(container)
    assert "--resume" in command or command[0] == "worker"
    folder = next(word for word in command if word.removeprefix("--out=").startswith("/runs/"))
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"]
        for v in pod(name)["volumes"]
        if len(v) == 2 and "persistentVolumeClaim" in v
    }
    assert set(claims.values()) <= CLAIMS
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert claims[mounts["/runs"]["name"]] == "se-nas-runs"
    assert folder
    assert "readOnly" not in mounts["/runs"]
    assert all(m["name"] in {v["name"] for v in pod(name)["volumes"]} for m in mounts.values())


@pytest.mark.parametrize("name", JOBS)
def test_a_pod_is_not_root_and_has_a_fixed_image(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["automountServiceAccountToken"] is False
    for container in (*pod(name)["containers"], *pod(name).get("initContainers", ())):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["image"] == f"se-nas:{se_nas.__version__}"


@pytest.mark.parametrize("name", JOBS)
def test_a_pods_command_exists(name: str) -> None:
    parse(shlex.join(["se-nas", *words(pod(name)["containers"][0])]))


def test_the_pods_of_a_retraining_meet_in_the_first() -> None:
    spec, (container,) = JOBS["se-nas-retrain"], pod("se-nas-retrain")["containers"]
    (service,) = [one for one in RESOURCES if one["kind"] == "Service"]
    assert container["command"] == ["torchrun"]
    given = get_args_parser().parse_args(container["args"])
    assert spec["completionMode"] == "Indexed"
    assert given.nnodes == str(spec["completions"]) == str(spec["parallelism"])
    assert str(given.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert given.max_restarts > 0
    name = service["metadata"]["name"]
    assert given.rdzv_endpoint == f"se-nas-retrain-0.{name}:{service['spec']['ports'][0]['port']}"
    assert pod("se-nas-retrain")["subdomain"] == name
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": "se-nas-retrain"}


def test_workers_wait_for_the_study_and_take_its_address_from_a_secret() -> None:
    search, worker = (pod(name)["containers"][0] for name in ("se-nas-search", "se-nas-worker"))
    secret = [{"name": "SE_NAS_STORAGE", "valueFrom": {"secretKeyRef": {"name": "se-nas-storage", "key": "url"}}}]
    assert search["env"] == worker["env"] == secret
    folder = words(worker)[1]
    assert f"--out={folder}" in words(search)
    (wait,) = pod("se-nas-worker")["initContainers"]
    assert f"{folder}/search/{STUDY_NAME}" in wait["command"][-1]
    assert JOBS["se-nas-worker"]["completionMode"] == "Indexed"
