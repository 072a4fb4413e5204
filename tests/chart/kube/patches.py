"""What a PATCH makes of a stored object: JSON merge, or strategic merge with its lists that are maps."""

from typing import Any

KEYS = {  # the merge key of each list that strategic merge treats as a map
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "topologySpreadConstraints": "topologyKey",
}
SERVICE_PORTS = "port"


def merge(old: Any, patch: Any, *, strategic: bool) -> Any:
    """`old` after `patch`: null removes, maps merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            out.pop(name, None)
        elif strategic and name in KEYS and isinstance(value, list) and all(isinstance(each, dict) for each in value):
            out[name] = _entries(name, out.get(name, []), value, patch.get(f"$setElementOrder/{name}", []))
        else:
            out[name] = merge(out.get(name), value, strategic=strategic)
    return out


def _entries(name: str, old: list[Any], patch: list[Any], order: list[Any]) -> list[Any]:
    key = KEYS[name]
    if name == "ports" and any(SERVICE_PORTS in each for each in [*old, *patch]):
        key = SERVICE_PORTS
    entries = {each.get(key): each for each in old}
    for each in patch:
        if each.get("$patch") == "delete":
            entries.pop(each.get(key), None)
        else:
            entries[each.get(key)] = merge(entries.get(each.get(key), {}), each, strategic=True)
    places = [each.get(key) for each in order]
    return sorted(
        entries.values(), key=lambda each: places.index(each.get(key)) if each.get(key) in places else len(places)
    )
