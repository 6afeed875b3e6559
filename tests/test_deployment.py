"""What is shipped for running it: compose and monitoring files that fit each other and the service's own metrics."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
import yaml

from adapters import AdapterMemory, EngineStatus
from app.metrics import Metrics
from app.model_server.ray_cluster import ServiceArguments
from app.settings import Settings
from app.terminal.model_serving import model_server
from ingest.postgres import PostgresServer
from tests.databases import ALL_TABLES, postgres_process

ROOT = Path(__file__).parent.parent


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


class IdleEngine:
    """Of an engine, what metrics ask for."""

    def status(self) -> EngineStatus:
        return EngineStatus(0, 0)

    def adapter_memory(self) -> AdapterMemory:
        return AdapterMemory()


def test_every_metric_of_the_dashboard_is_one_the_service_has() -> None:
    metrics = Metrics(IdleEngine(), lambda: True)  # type: ignore[arg-type]
    metrics.request("GET", "/ask", 200, 0.1)
    metrics.ask("answered", {"total": 1.0}, 1, 1)
    there = set(re.findall(r"^([a-z_]+)", metrics.text().decode(), re.MULTILINE))
    panels = json.loads((ROOT / "deploy/grafana/dashboards/lorebase.json").read_text())["panels"]
    asked = set(
        re.findall(r"\b(?:lorebase|process)_[a-z_]+", " ".join(t["expr"] for p in panels for t in p["targets"]))
    )
    assert len(asked) > 15
    assert asked <= there


def test_compose_names_only_what_it_declares() -> None:
    compose = read("docker-compose.yml")
    services = compose["services"]
    for service in services.values():
        assert {"image", "build"} & set(service)
        assert set(service.get("depends_on", [])) <= set(services)
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose["volumes"]
        assert set(service.get("networks", ["default"])) <= set(compose["networks"])
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    alone = [name for name, service in services.items() if "profiles" not in service]
    assert alone == ["lorebase"]
    variables = {name.removeprefix("LOREBASE_").lower() for name in services["lorebase"]["environment"]}
    assert variables <= set(Settings.model_fields)


def test_the_profiles_add_what_they_say_and_the_parts_find_each_other() -> None:
    services = read("docker-compose.yml")["services"]
    profiles: dict[str, set[str]] = {}
    for name, service in services.items():
        for profile in service.get("profiles", []):
            profiles.setdefault(profile, set()).add(name)
    assert profiles == {
        "postgres": {"postgres"},
        "monitoring": {"prometheus", "grafana"},
        "vllm": {"vllm"},
        "ray": {"ray-head", "ray-worker"},
    }
    pinned = re.compile(r"[\w./-]+:v?\d+\.\d+")
    assert all(pinned.match(service["image"]) for service in services.values() if "image" in service)
    (job,) = read("deploy/prometheus.yml")["scrape_configs"]
    hosts = {target.partition(":")[0] for each in job["static_configs"] for target in each["targets"]}
    (source,) = read("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    hosts.add(re.split("[:/]+", source["url"])[1])
    hosts.add(re.split("[:/]+", services["lorebase"]["environment"]["LOREBASE_OPENAI_URL"])[1])
    assert hosts == {"lorebase", "prometheus", "model-server"}
    for name in ("vllm", "ray-head"):
        assert services[name]["networks"]["models"]["aliases"] == ["model-server"]
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/lorebase.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    (provider,) = read("deploy/grafana/provisioning/dashboards/lorebase.yml")["providers"]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_model_servers_and_the_database_are_reached_by_the_service_alone() -> None:
    services = read("docker-compose.yml")["services"]
    members = {
        network: {name for name, service in services.items() if network in service.get("networks", ["default"])}
        for network in ("default", "database", "models")
    }
    assert members["models"] == {"lorebase", "vllm", "ray-head", "ray-worker"}
    assert members["database"] == {"lorebase", "postgres"}
    assert members["default"] == {"lorebase", "prometheus", "grafana"}
    key = services["lorebase"]["environment"]["LOREBASE_OPENAI_KEY"]
    assert services["vllm"]["environment"]["VLLM_API_KEY"] == key
    assert services["ray-head"]["environment"]["LOREBASE_MODEL_SERVER_KEY"] == key


def test_the_role_of_the_profile_postgres_is_one_that_the_service_takes() -> None:
    with tempfile.TemporaryDirectory(prefix="lorebase-pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server runs as a user of its own where the tests run as root
        with postgres_process(Path(folder) / "data") as superuser:
            import pgserver

            place = psycopg.conninfo.conninfo_to_dict(superuser)["host"]
            programs = Path(pgserver.__file__).parent / "pginstall/bin"
            environment = {"PATH": f"{programs}:{os.defpath}", "PGHOST": str(place)}
            environment["LOREBASE_DATABASE_PASSWORD"] = "it's long"
            subprocess.run([ROOT / "deploy/postgres/role.sh"], env=environment, check=True)
            PostgresServer(f"postgresql://lorebase:it%27s%20long@/lorebase?host={place}", ALL_TABLES).close()


def test_the_profile_ray_starts_the_model_server_with_options_that_it_has() -> None:
    services = read("docker-compose.yml")["services"]
    command = services["ray-head"]["command"][-1]
    start, serve = (part.split() for part in command.split(" && exec lorebase "))
    assert start[:3] == ["ray", "start", "--head"]
    filled = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in serve[1:]]
    given = typer.main.get_command(_command()).make_context("model-server", filled, resilient_parsing=False).params
    assert (given["on_ray"], given["ray_address"], given["host"], given["port"]) == (True, "auto", "0.0.0.0", 8000)
    mounted = {volume.split(":")[1] for volume in services["ray-head"]["volumes"]}
    assert {str(given["adapters"]), str(Path(given["model"]).parent)} <= mounted
    assert str(given["adapters"]) == services["lorebase"]["environment"]["LOREBASE_OPENAI_DATA"]
    for name in ("ray-head", "ray-worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert "ports" not in services[name]
        assert (services[name]["read_only"], services[name]["cap_drop"]) == (True, ["ALL"])


def _command() -> typer.Typer:
    alone = typer.Typer()
    alone.command()(model_server)
    return alone


def test_the_kubernetes_manifest_builds_what_is_there() -> None:
    service, policy = yaml.safe_load_all((ROOT / "deploy/kuberay.yaml").read_text())
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    module, function = application["import_path"].split(":")
    path = ROOT / (module.replace(".", "/") + ".py")
    assert f"def {function}(" in path.read_text()
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,) = pod["template"]["spec"]["containers"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {application["args"]["adapters"], str(Path(application["args"]["model"]).parent)} <= mounted
        assert "LOREBASE_MODEL_SERVER_KEY" in {variable["name"] for variable in container["env"]}
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert ServiceArguments(**application["args"]).max_replicas >= application["args"]["replicas"]


def test_the_container_runs_without_rights_on_a_root_it_cannot_write() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users
    assert users[-1].isdigit()  # a number, so that a cluster can see that it is not root
    assert int(users[-1]) > 0
    assert f"useradd --system --uid {users[-1]}" in "\n".join(lines)
    assert lines.index(f"USER {users[-1]}") < next(n for n, line in enumerate(lines) if line.startswith("CMD"))
    service = read("docker-compose.yml")["services"]["lorebase"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]
    assert [volume.partition(":")[2] for volume in service["volumes"]] == ["/data"]
    assert "user" not in service
    assert "privileged" not in service


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*.yml")), ids=lambda path: path.name)
def test_monitoring_files_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_prometheus_uses_the_key_for_metrics_alone() -> None:
    (job,) = read("deploy/prometheus.yml")["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"]["credentials_file"].endswith("/lorebase_metrics_key")
