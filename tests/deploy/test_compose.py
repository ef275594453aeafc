"""docker-compose.yml: valid by the published schema, and right by our own rules, each shown to fail."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.compose import (
    PROFILES,
    RULES,
    Compose,
    complaints,
    interpolate,
    read_compose,
    schema_errors,
)

FILLED = {"PIXMILL_PHOTOS": "/srv/photos", "PIXMILL_POSTGRES_PASSWORD": "one", "PIXMILL_REDIS_PASSWORD": "two"}

Breakage = Callable[[Compose], Any]


def active(compose: Compose, profile: str) -> Compose:
    """The file as `docker compose --profile NAME config` would show it: variables put in, other profiles left out."""
    filled: Compose = interpolate(compose, FILLED)
    chosen = {
        name: service for name, service in filled["services"].items() if set(service.get("profiles", [])) <= {profile}
    }
    return {**filled, "services": chosen}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_file_is_valid_in_every_profile(profile: str) -> None:
    compose = active(read_compose(), profile)
    assert set(compose["services"]) == PROFILES[""] | PROFILES[profile]
    assert not schema_errors(compose)
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])


def test_the_file_keeps_every_rule() -> None:
    assert not schema_errors(read_compose())
    assert not complaints(read_compose())


@pytest.mark.parametrize("name", FILLED)
def test_nothing_starts_without_a_required_setting(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        interpolate(read_compose(), {**FILLED, name: ""})


SCHEMA_BREAKAGES: dict[str, Breakage] = {
    "an unknown key": lambda c: c["services"]["redis"].update(imagee="x"),
    "a service that is a list": lambda c: c["services"].update(redis=[]),
    "a restart policy that is a number": lambda c: c["services"]["redis"].update(restart=3),
    "a dependency without a condition": lambda c: c["services"]["migrate"]["depends_on"]["postgres"].clear(),
    "a GPU reservation without a capability": lambda c: gpu(c, 0).pop("capabilities"),
    "an unknown top-level key": lambda c: c.update(servces={}),
}


@pytest.mark.parametrize("breakage", SCHEMA_BREAKAGES)
def test_the_schema_refuses(breakage: str) -> None:
    broken = copy.deepcopy(read_compose())
    SCHEMA_BREAKAGES[breakage](broken)
    assert schema_errors(broken)


def gpu(compose: Compose, number: int) -> Compose:
    reserved: Compose = compose["services"][f"worker-gpu-{number}"]["deploy"]["resources"]["reservations"]["devices"][0]
    return reserved


def service(name: str, **changes: Any) -> Breakage:
    return lambda compose: compose["services"][name].update(changes)


def without(name: str, key: str) -> Breakage:
    return lambda compose: compose["services"][name].pop(key)


RULE_BREAKAGES: list[tuple[str, Breakage]] = [
    ("profiles_as_intended", without("worker-cpu", "profiles")),
    ("profiles_as_intended", service("redis", profiles=["cpu"])),
    ("profiles_as_intended", lambda c: c["services"].update(extra=c["services"]["migrate"])),
    ("dependencies_start_too", lambda c: c["services"].pop("migrate")),
    ("dependencies_start_too", service("postgres", profiles=["cpu"])),
    ("waits_for_readiness", lambda c: c["services"]["worker-gpu-1"]["depends_on"].pop("redis")),
    ("waits_for_readiness", lambda c: c["services"]["worker-cpu"]["depends_on"].update(migrate={"condition": "x"})),
    ("waits_for_readiness", without("postgres", "healthcheck")),
    ("one_gpu_per_gpu_worker", lambda c: gpu(c, 1).update(device_ids=["0"])),
    ("one_gpu_per_gpu_worker", lambda c: gpu(c, 1).update(device_ids=["1", "2"])),
    ("one_gpu_per_gpu_worker", lambda c: (gpu(c, 1).pop("device_ids"), gpu(c, 1).update(count=1))),
    ("one_gpu_per_gpu_worker", without("worker-gpu-0", "deploy")),
    ("waits_for_readiness", lambda c: c["services"]["api"]["depends_on"].pop("migrate")),
    ("only_the_api_published", service("postgres", ports=["5432:5432"])),
    ("only_the_api_published", service("api", ports=["8420:8420"])),
    ("only_the_api_published", service("api", ports=["0.0.0.0:8420:8420"])),
    ("only_the_api_published", without("api", "ports")),
    ("only_the_api_published", service("redis", network_mode="host")),
    ("only_the_api_published", lambda c: c["networks"]["inside"].pop("internal")),
    ("only_the_api_published", service("worker-cpu", networks=["inside", "outside"])),
    ("only_the_api_published", service("postgres", networks=["inside", "front"])),
    ("the_api_serves_what_it_should", service("api", image="pixmill-cpu")),
    ("the_api_serves_what_it_should", service("api", command=["api", "--root", "/"])),
    ("the_api_serves_what_it_should", service("api", command=["api", "--root", "/photos", "--root", "/etc"])),
    ("the_api_serves_what_it_should", service("api", volumes=["${PIXMILL_PHOTOS:?x}:/photos:ro"])),
    ("the_api_serves_what_it_should", service("api", healthcheck={"test": ["CMD", "true"]})),
    ("long_runners_are_kept_well", without("api", "healthcheck")),
    ("least_privilege", without("redis", "user")),
    ("least_privilege", service("migrate", user="0:0")),
    ("least_privilege", service("worker-gpu-0", privileged=True)),
    ("least_privilege", service("worker-cpu", cap_add=["SYS_ADMIN"])),
    ("least_privilege", service("postgres", cap_drop=[])),
    ("least_privilege", without("postgres", "security_opt")),
    ("least_privilege", service("worker-cpu", read_only=False)),
    ("least_privilege", service("worker-cpu", volumes=["${PIXMILL_PHOTOS:?x}:/photos"])),
    ("long_runners_are_kept_well", without("worker-gpu-1", "healthcheck")),
    ("long_runners_are_kept_well", service("redis", restart="no")),
    ("long_runners_are_kept_well", without("worker-cpu", "init")),
    ("long_runners_are_kept_well", without("postgres", "logging")),
    ("long_runners_are_kept_well", without("worker-cpu", "stop_grace_period")),
    ("variables_are_documented", service("redis", hostname="${PIXMILL_NEW:?set it}")),
    ("variables_are_documented", service("redis", environment={"REDISCLI_AUTH": "${PIXMILL_REDIS_PASSWORD:-secret}"})),
    ("variables_are_documented", lambda c: c.update(services={"redis": c["services"]["redis"]})),
    ("volumes_and_networks_are_declared", lambda c: c["volumes"].pop("home")),
    ("volumes_and_networks_are_declared", service("worker-cpu", networks=["elsewhere"])),
    ("the_broker_refuses_rather_than_forgets", service("redis", command=["valkey-server", "--requirepass", "x"])),
    ("built_from_locks", lambda c: c["services"]["worker-cpu"]["build"]["args"].update(EXTRA="all")),
    ("built_from_locks", service("worker-gpu-0", image="pixmill-cpu")),
    ("built_from_locks", service("postgres", image="postgres")),
]


@pytest.mark.parametrize(("rule", "breakage"), RULE_BREAKAGES, ids=[name for name, _ in RULE_BREAKAGES])
def test_a_broken_rule_is_named(rule: str, breakage: Breakage) -> None:
    broken = read_compose()  # its services share what YAML's anchors name: each gets a copy of its own
    broken["services"] = {name: copy.deepcopy(part) for name, part in broken["services"].items()}
    breakage(broken)
    assert rule in complaints(broken)


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _ in RULE_BREAKAGES}
