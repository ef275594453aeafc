"""docker-compose.yml as data, and the rules that it must keep beyond its schema."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
PROFILES: dict[str, set[str]] = {  # what starts with no profile and what each profile adds
    "": {"redis", "postgres", "migrate", "api"},
    "cpu": {"worker-cpu"},
    "gpu": {"worker-gpu-0", "worker-gpu-1"},
    "tools": {"pixmill"},
}
ONE_SHOT = {"migrate", "pixmill"}  # nothing waits for their health

Compose = dict[str, Any]
Rule = Callable[[Compose], Iterator[str]]

# `$$`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<how>[-?])(?P<rest>[^}]*))?\})")


def read_compose() -> Compose:
    """The file with its anchors resolved, its variables not."""
    loaded: Compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def example_names() -> set[str]:
    """The variables that deploy/.env.example offers."""
    text = (ROOT / "deploy" / ".env.example").read_text(encoding="utf-8")
    return set(re.findall(r"^(\w+)=", text, flags=re.MULTILINE))


def interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    """Put variables in, as Compose does before anything starts. Raises KeyError for a required one that is not set."""
    if isinstance(value, dict):
        return {key: interpolate(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [interpolate(part, environment) for part in value]
    return VARIABLE.sub(lambda found: _replacement(found, environment), value) if isinstance(value, str) else value


def _replacement(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found["escaped"]:
        return "$"
    set_to = environment.get(found["name"], "")
    if set_to or found["how"] is None:
        return set_to
    if found["how"] == "?":
        raise KeyError(f"{found['name']}: {found['rest']}")
    return str(found["rest"])


def schema_errors(compose: Compose) -> list[str]:
    """What the published Compose schema objects to."""
    schema = files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text(encoding="utf-8")
    return [error.message for error in Draft202012Validator(json.loads(schema)).iter_errors(compose)]


def complaints(compose: Compose) -> dict[str, list[str]]:
    """Every rule that is broken, by its name, with the places."""
    found = {rule.__name__: list(rule(compose)) for rule in RULES}
    return {name: places for name, places in found.items() if places}


def workers(compose: Compose) -> dict[str, Any]:
    return {name: service for name, service in compose["services"].items() if name.startswith("worker-")}


def devices(service: Compose) -> list[str]:
    reserved = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    return [device for one in reserved if "gpu" in one["capabilities"] for device in one.get("device_ids", ["all"])]


def profiles_as_intended(compose: Compose) -> Iterator[str]:
    for profile, expected in PROFILES.items():
        named = {
            name
            for name, service in compose["services"].items()
            if service.get("profiles", []) == ([profile] if profile else [])
        }
        if named != expected:
            yield f"profile {profile or '(none)'}: expected {sorted(expected)}, got {sorted(named)}"


def dependencies_start_too(compose: Compose) -> Iterator[str]:
    """A dependency exists and is active whenever its dependant is."""
    for name, service in compose["services"].items():
        for target in service.get("depends_on", {}):
            there = compose["services"].get(target)
            if there is None or not set(there.get("profiles", [])) <= set(service.get("profiles", [])):
                yield f"{name} depends on {target}"


def waits_for_readiness(compose: Compose) -> Iterator[str]:
    """Workers and API wait for both servers' health and for the schema; the schema waits for the database."""
    healthy, done = "service_healthy", "service_completed_successfully"
    wanted = {name: {"redis": healthy, "postgres": healthy, "migrate": done} for name in (*workers(compose), "api")}
    wanted["migrate"] = {"postgres": healthy}
    for name, conditions in wanted.items():
        waits = compose["services"].get(name, {}).get("depends_on", {})
        for target, condition in conditions.items():
            if waits.get(target, {}).get("condition") != condition:
                yield f"{name} does not wait for {target}: {condition}"
            if condition == healthy and "healthcheck" not in compose["services"].get(target, {}):
                yield f"{target} cannot become healthy"


def one_gpu_per_gpu_worker(compose: Compose) -> Iterator[str]:
    taken = Counter(device for service in compose["services"].values() for device in devices(service))
    yield from (f"GPU {device} is given to {times} services" for device, times in taken.items() if times > 1)
    for name, service in compose["services"].items():
        expected = 1 if "gpu" in service.get("profiles", []) else 0
        if len(devices(service)) != expected or "all" in devices(service):
            yield f"{name} has GPUs {devices(service)}, expected {expected}"


def only_the_api_published(compose: Compose) -> Iterator[str]:
    """One port, on the host's loopback; beside the API only the tools can reach outside, and nobody shares its way."""
    for name, service in compose["services"].items():
        published = service.get("ports", [])
        if service.get("network_mode") or published != (["127.0.0.1:8420:8420"] if name == "api" else []):
            yield f"{name} is reachable from outside: {published}"
        networks = service.get("networks", ["default"])
        ways_out = {network for network in networks if not compose["networks"].get(network, {}).get("internal")}
        if ways_out != {"api": {"front"}, "pixmill": {"outside"}}.get(name, set()):
            yield f"{name} can reach outside by {sorted(ways_out)}"


def the_api_serves_what_it_should(compose: Compose) -> Iterator[str]:
    """An image without machine learning, the pictures as its only root, and a home that outlives it."""
    service = compose["services"].get("api", {})
    if service.get("image") != "pixmill-api":
        yield f"image {service.get('image')}"
    words = service.get("command", [])
    if [words[n + 1] for n, word in enumerate(words) if word == "--root"] != ["/photos"]:
        yield f"roots: {words}"
    if not any(volume.startswith("home:/var/lib/pixmill") for volume in service.get("volumes", [])):
        yield "tokens and uploads do not outlive the container"
    if "8420/livez" not in " ".join(service.get("healthcheck", {}).get("test", [])):
        yield "its health check asks something else"


def least_privilege(compose: Compose) -> Iterator[str]:
    for name, service in compose["services"].items():
        if str(service.get("user", "root")).split(":")[0] in ("root", "0"):
            yield f"{name} runs as root"
        if service.get("privileged") or service.get("cap_add") or service.get("cap_drop") != ["ALL"]:
            yield f"{name} keeps capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name} may gain privileges"
        if not service.get("read_only"):
            yield f"{name} may write to its image"
        for volume in service.get("volumes", []):
            if ":/photos" in volume and not volume.endswith(":ro"):
                yield f"{name} may write to the photos"


def long_runners_are_kept_well(compose: Compose) -> Iterator[str]:
    for name, service in compose["services"].items():
        if name not in ONE_SHOT and not service.get("healthcheck", {}).get("test"):
            yield f"{name} has no health check"
        if name not in ONE_SHOT and service.get("restart") != "unless-stopped":
            yield f"{name} is not restarted"
        if not service.get("init") or "max-size" not in service.get("logging", {}).get("options", {}):
            yield f"{name} has no init, or a log without limit"
    for name, service in workers(compose).items():
        if service.get("stop_grace_period") != "90s":
            yield f"{name} has no time to drain"


def variables_are_documented(compose: Compose) -> Iterator[str]:
    """Each variable is offered in .env.example, and required wherever it is used: none has a default that slips in."""
    uses = [found for found in VARIABLE.finditer(json.dumps(compose["services"])) if found["name"]]
    used = {found["name"] for found in uses}
    yield from (f"{name} is not in deploy/.env.example" for name in sorted(used - example_names()))
    yield from (f"{name} is in deploy/.env.example, but not used" for name in sorted(example_names() - used))
    yield from (f"{found[0]} is not required" for found in uses if found["how"] != "?")


def volumes_and_networks_are_declared(compose: Compose) -> Iterator[str]:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if re.fullmatch(r"[\w-]+", source) and source not in compose["volumes"]:
                yield f"{name}: volume {source}"
        yield from (f"{name}: network {one}" for one in service.get("networks", []) if one not in compose["networks"])


def the_broker_refuses_rather_than_forgets(compose: Compose) -> Iterator[str]:
    command = " ".join(compose["services"]["redis"]["command"])
    for words in ("--requirepass", '--save ""', "--appendonly no", "--maxmemory-policy noeviction", "--maxmemory "):
        if words not in command:
            yield f"redis: {words}"


def built_from_locks(compose: Compose) -> Iterator[str]:
    for name, service in compose["services"].items():
        extra = service.get("build", {}).get("args", {}).get("EXTRA")
        if "build" in service and not (ROOT / "requirements" / f"{extra}.lock").is_file():
            yield f"{name}: there is no lock {extra}"
        if "build" in service and service.get("image") != f"pixmill-{extra}":
            yield f"{name}: image {service.get('image')} is built from {extra}"
        if "build" not in service and not re.search(r":[0-9]", service["image"]):
            yield f"{name}: {service['image']} has no version"


RULES: tuple[Rule, ...] = (
    profiles_as_intended,
    dependencies_start_too,
    waits_for_readiness,
    one_gpu_per_gpu_worker,
    only_the_api_published,
    the_api_serves_what_it_should,
    least_privilege,
    long_runners_are_kept_well,
    variables_are_documented,
    volumes_and_networks_are_declared,
    the_broker_refuses_rather_than_forgets,
    built_from_locks,
)
