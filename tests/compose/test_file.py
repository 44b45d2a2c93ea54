"""docker-compose.yml, .env.example and what they mount: the compose schema, each other, and our own rules."""

import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from serving import VllmConfig, vllm_options
from serving.access import ENDPOINTS
from tests.compose.stack import EXAMPLE, FILE, ROOT, VARIABLE, document, mounts, variables

ENGINES = ("engine", "engine-cpu")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# No digest of these could be confirmed.
BY_VERSION = re.compile(r"qdrant/qdrant:v[\d.]+-unprivileged")


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return document()


@pytest.fixture(scope="module")
def services(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = whole["services"]
    return found


def schema() -> jsonschema.Draft202012Validator:
    """The Compose Specification's own schema, as it is published; its licence (Apache-2.0) lies beside it."""
    return jsonschema.Draft202012Validator(json.loads((Path(__file__).parent / "compose-spec.json").read_text()))


def test_the_file_keeps_to_the_compose_schema(whole: dict[str, Any]) -> None:
    schema().validate(yaml.safe_load(FILE.read_text()))
    schema().validate(whole)
    whole["services"]["gateway"]["healthchek"] = {}
    with pytest.raises(jsonschema.ValidationError, match="healthchek"):
        schema().validate(whole)
    del whole["services"]["gateway"]["healthchek"]


def test_the_example_sets_what_the_file_reads_and_its_values_are_the_defaults() -> None:
    read = {found["name"]: found["default"] for found in VARIABLE.finditer(FILE.read_text()) if found["name"]}
    example = variables()
    assert example.pop("COMPOSE_PROFILES") == "gpu"
    assert read == example
    assert not re.search("password|_key|secret", "\n".join(example).lower())


def test_every_service_is_held_short(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert "privileged" not in service, name
        assert "healthcheck" in service or name == "init", name
        assert service["restart"] == ("no" if name == "init" else "unless-stopped"), name
        built = "build" in service
        assert built or DIGEST.search(service["image"]) or BY_VERSION.fullmatch(service["image"]), name
        # What is not a volume of its own or in memory cannot be written.
        for target, (source, read_only) in mounts(service).items():
            assert read_only or not source.startswith((".", "/")), f"{name}: {target}"


def test_secrets_are_files_and_nobody_gets_one_in_vain(whole: dict[str, Any]) -> None:
    used = {name: service.get("secrets", []) for name, service in whole["services"].items()}
    assert {name for name, given in used.items() if "qdrant_api_key" in given} == {
        "qdrant", "qdrant-2", "qdrant-3", "gateway",
    }  # fmt: skip
    assert {name for name, given in used.items() if "grafana_password" in given} == {"grafana"}
    assert set(whole["secrets"]) == {"qdrant_api_key", "grafana_password"}
    for name, service in whole["services"].items():
        for secret in used[name]:
            assert f"/run/secrets/{secret}" in json.dumps([service["environment"], service.get("entrypoint")])
    assert {"/secrets/", "/.env"} <= set((ROOT / ".gitignore").read_text().split())


def test_the_engines_are_reached_by_the_gateway_alone(whole: dict[str, Any]) -> None:
    services = whole["services"]
    assert whole["networks"]["engine"] == {"internal": True}
    assert {name for name, service in services.items() if "engine" in service.get("networks", [])} == {
        "gateway", *ENGINES,
    }  # fmt: skip
    for name in ENGINES:
        assert services[name]["networks"] == {"engine": {"aliases": ["engine"]}}
        assert "ports" not in services[name]
        assert mounts(services[name])["/store"] == ("store", True)
    assert [services[name]["profiles"] for name in ENGINES] == [["gpu"], ["cpu"]]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_volumes_and_dependencies_are_declared(whole: dict[str, Any]) -> None:
    named = {source for service in whole["services"].values() for source, _ in mounts(service).values()}
    assert {source for source in named if not source.startswith(".")} == set(whole["volumes"])
    files = {source for source in named if source.startswith(".")} - {variables()["SLMDOCK_MODELS"]}
    assert all((ROOT / file).exists() for file in files)
    for service in whole["services"].values():
        for other, how in service.get("depends_on", {}).items():
            ends = "completed_successfully" if other == "init" else "healthy"
            assert how["condition"] == f"service_{ends}"
    optional = whole["services"]["gateway"]["depends_on"]
    assert [name for name, how in optional.items() if how.get("required") is False] == list(ENGINES)


def test_the_engine_is_started_as_the_dock_starts_its_own(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    config = VllmConfig(tmp_path, "my-base", tmp_path, tmp_path / "log", kv_cache_gib=4, max_model_len=8192)
    ours = vllm_options.command(config, tmp_path / "socket")[3:]
    wanted = {word for word in ours if word.startswith("--")} - {"--uds", "--dtype", "--enforce-eager"}
    for name in ENGINES:
        given = {word.partition("=")[0] for word in services[name]["command"]}
        assert given == wanted | {"--host", "--port"}
        environment = services[name]["environment"]
        for variable, value in vllm_options.environment(config, tmp_path).items():
            if variable.startswith(("VLLM_", "HF_", "DO_NOT")) and variable != "VLLM_CPU_KVCACHE_SPACE":
                assert environment[variable] == value, variable
    assert services["engine-cpu"]["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "4"


def test_the_engine_s_length_can_be_set_and_it_uses_the_one_gpu_that_it_reserves() -> None:
    for length in ("auto", "8192"):
        services = document(variables() | {"SLMDOCK_MAX_MODEL_LEN": length})["services"]
        assert all(f"--max-model-len={length}" in services[name]["command"] for name in ENGINES)
    (device,) = services["engine"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == 1
    assert not any("parallel" in word for word in services["engine"]["command"])


def test_prometheus_asks_the_gateway_with_the_key_that_init_makes(services: dict[str, dict[str, Any]]) -> None:
    (job,) = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["gateway:8000"]}]
    assert "--port=8000" in services["gateway"]["command"]
    file = Path(job["authorization"]["credentials_file"])
    assert mounts(services["prometheus"])[str(file.parent)] == ("metrics-key", True)
    assert mounts(services["init"])[str(file.parent)] == ("metrics-key", False)
    assert f" {file}\n" in services["init"]["command"][0]
    assert "search" in (ENDPOINTS["GET /metrics"] or ())
    assert "--role search" in services["init"]["command"][0]
    configuration = next(word for word in services["prometheus"]["command"] if word.startswith("--config.file="))
    assert configuration.partition("=")[2] in mounts(services["prometheus"])


def test_grafana_finds_prometheus_and_the_dashboard(services: dict[str, dict[str, Any]]) -> None:
    provisioning = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load((provisioning / "dashboards/slmdock.yml").read_text())["providers"]
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert mounts(services["grafana"])[home] == ("./deploy/grafana/slmdock.json", True)
    assert str(Path(home).parent) == provider["options"]["path"]


@pytest.mark.parametrize("there", [False, True])
def test_secrets_are_made_once(there: bool, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    if there:
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets").chmod(0o755)
    script = tmp_path / "scripts" / "secrets"
    script.write_bytes((ROOT / "scripts" / "secrets").read_bytes())
    (tmp_path / ".env.example").write_bytes(EXAMPLE.read_bytes())
    subprocess.run(["bash", script], check=True, capture_output=True)
    folder = tmp_path / "secrets"
    made = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(made) == set(document()["secrets"])
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch("[0-9a-f]{64}", word) for word in made.values())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}
    assert (tmp_path / ".env").read_bytes() == EXAMPLE.read_bytes()
    (tmp_path / ".env").write_text("SLMDOCK_BASE=mine\n")
    subprocess.run(["bash", script], check=True, capture_output=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == made
    assert (tmp_path / ".env").read_text() == "SLMDOCK_BASE=mine\n"
