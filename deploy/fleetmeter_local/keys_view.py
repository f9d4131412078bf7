"""Shows projects and keys to people and programs; reads no log."""

from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from fleetmeter_local.durations import write_ms
from fleetmeter_local.keys import Registry, short_id
from fleetmeter_schemas.records import ApiKey, Project


def table(registry: Registry) -> Table:
    """One row a key; a project without keys has one row too."""
    shown = Table(title="Projects and API keys")
    for name in ("project", "project id", "idle timeout", "key", "ends in", "made", "revoked"):
        shown.add_column(name)
    for project in _projects(registry):
        of_project = (project["name"], project["project_id"], write_ms(project["idle_timeout_ms"]))
        of_keys = [_of_key(key) for key in _keys(registry, project)]
        for of_key in of_keys or [("", "", "", "")]:
            shown.add_row(*of_project, *of_key)
    return shown


def _of_key(key: ApiKey) -> tuple[str, str, str, str]:
    revoked_at_ms = key["revoked_at_ms"]
    revoked = "" if revoked_at_ms is None else _time(revoked_at_ms)
    return (short_id(key), f"…{key['hint']}", _time(key["created_at_ms"]), revoked)


def as_json(registry: Registry) -> list[dict[str, Any]]:
    """One object a project, its keys inside; times in milliseconds since the Unix epoch."""
    return [
        {
            "project_id": project["project_id"],
            "name": project["name"],
            "idle_timeout_ms": project["idle_timeout_ms"],
            "created_at_ms": project["created_at_ms"],
            "keys": [
                {
                    "id": short_id(key),
                    "hint": key["hint"],
                    "created_at_ms": key["created_at_ms"],
                    "revoked_at_ms": key["revoked_at_ms"],
                }
                for key in _keys(registry, project)
            ],
        }
        for project in _projects(registry)
    ]


def _projects(registry: Registry) -> list[Project]:
    return sorted(registry.projects.values(), key=lambda project: project["created_at_ms"])


def _keys(registry: Registry, project: Project) -> list[ApiKey]:
    of_project = [
        key for key in registry.api_keys.values() if key["project_id"] == project["project_id"]
    ]
    return sorted(of_project, key=lambda key: key["created_at_ms"])


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
