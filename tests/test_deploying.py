"""The examples for Kubernetes and KServe: valid by Kubernetes' own schemas where those are installed
(`pip install kubernetes-validate`), and what they say of the server is true.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from runs import ROOT

from swrec_prod.cli import app
from swrec_prod.experiments.experiments_file import ExperimentsFile
from swrec_prod.serving.routing.routes import Routes
from swrec_prod.strict import load

KUBERNETES, KSERVE = (ROOT / "launch" / name for name in ("kubernetes/scorer.yaml", "kserve/inference_service.yaml"))


def documents(path: Path) -> dict[str, dict[str, Any]]:
    """By kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


def pods() -> list[dict[str, Any]]:
    """What both examples say of a pod."""
    deployment, service = documents(KUBERNETES)["Deployment"], documents(KSERVE)["InferenceService"]
    return [deployment["spec"]["template"]["spec"], service["spec"]["predictor"]]


def flags(pod: dict[str, Any]) -> dict[str, str]:
    return dict(arg.partition("=")[::2] for arg in pod["containers"][0]["args"][1:])


def known(command: str) -> set[str]:
    parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


def test_kubernetes_knows_all_of_it() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for document in documents(KUBERNETES).values():
        validate.validate(document, "1.30", strict=True)


@pytest.mark.parametrize("pod", pods(), ids=("kubernetes", "kserve"))
def test_flags_exist_and_the_pod_waits_for_the_drain(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    given = flags(pod)
    assert container["args"][0] == "serve" and given.keys() <= known("serve")
    assert float(given["--notice"]) + float(given["--grace"]) < pod["terminationGracePeriodSeconds"]
    assert int(given["--port"]) in {port["containerPort"] for port in container["ports"]}
    asked = container["readinessProbe"]["exec"]["command"]
    assert asked[:2] == ["swrec", "health"] and {word for word in asked if word.startswith("--")} <= known("health")
    assert f"localhost:{given['--port']}" in asked
    assert ("--tls-cert" in given) == ("--tls-ca" in asked) != ("--insecure" in given)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    places = tuple(mount["mountPath"] for mount in container["volumeMounts"])
    files = [value for value in given.values() if value.startswith("/")]
    assert files and all(file.startswith(places) for file in files)


def test_selectors_ports_and_names_agree() -> None:
    found = documents(KUBERNETES)
    deployment = found["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    assert labels == found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    ports = {port["name"]: port["containerPort"] for port in deployment["template"]["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} <= ports.keys()
    annotations = deployment["template"]["metadata"]["annotations"]
    given = flags(deployment["template"]["spec"])
    assert annotations["prometheus.io/port"] == given["--metrics-port"] == str(ports["metrics"])
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]


def test_its_rules_are_those_that_a_server_reads(tmp_path: Path) -> None:
    rules = documents(KUBERNETES)["ConfigMap"]["data"]
    for name, kind in (("routes.yaml", Routes), ("experiments.yaml", ExperimentsFile)):
        (tmp_path / name).write_text(rules[name])
        assert isinstance(load(kind, tmp_path / name), kind)
    given = flags(pods()[0])
    assert {Path(given[flag]).name for flag in ("--routes", "--experiments")} == rules.keys()
