"""The commands of `fleetmeter`: read arguments, call what does the work, print. Decide nothing.

Everything heavy is imported where it is needed, so that `--help` answers at once.
"""
# ruff: noqa: PLC0415

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from fleetmeter_schemas.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fleetmeter_local.observed import ApiReader
    from fleetmeter_local.stack import Stack

EXIT_DIFFERS = 1
WRITERS_DEFAULT = 2

app = typer.Typer(
    name="fleetmeter",
    help="Keeps the books of AI-agent fleets: a whole local stack under one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="Projects and their API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="FLEETMETER_DATA_DIR",
        help="The stack's folder; default: the user's data folder.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
ProjectName = Annotated[
    str | None, typer.Option("--project", help="A project's name; default: `default`.")
]


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status, or raises what `cli.main` turns into one."""
    try:
        app(args=arguments, prog_name="fleetmeter")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_DIFFERS
    return 0


@app.command()
def up(
    data_dir: DataDir = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The api's port.")
    ] = None,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is ready.")
    ] = False,
) -> None:
    """Start Kafka, the store, the processors and the api, and keep them running."""
    from fleetmeter_local import lifecycle, lifecycle_view

    folder = _folder(data_dir)
    with lifecycle.ended_by_signals():
        with lifecycle_view.steps() as display:
            started = lifecycle.up(folder, port, os.environ, display)
        _print(lifecycle_view.summary(started, stays=not detach))
        if not detach:
            lifecycle.stay(started.stack)
            typer.echo("Stopped.")


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Stop everything, in order."""
    from fleetmeter_local import lifecycle

    folder = _folder(data_dir)
    was_running = lifecycle.down(folder)
    typer.echo("Stopped." if was_running else f"Nothing is running in {folder}.")


@app.command()
def status(data_dir: DataDir = None, *, as_json: Json = False) -> None:
    """Show the processes, their ports and how far behind they are; exit 1 unless all are ready."""
    from fleetmeter_local import status as state
    from fleetmeter_local import status_view

    now = state.examine(_stack(data_dir))
    if as_json:
        _print_json(state.as_json(now))
    else:
        _print(status_view.table(now))
    if not now.is_ready:
        raise typer.Exit(EXIT_DIFFERS)


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Look for what is missing, and name the command that repairs it; exit 1 if there is any."""
    from fleetmeter_local import doctor as examiner
    from fleetmeter_local import status_view

    findings = list(examiner.examine(_folder(data_dir)))
    _print(status_view.findings(findings))
    if not all(each.is_well for each in findings):
        raise typer.Exit(EXIT_DIFFERS)


@app.command()
def env(data_dir: DataDir = None, project: ProjectName = None) -> None:
    """Print what a program beside the stack needs: eval "$(fleetmeter env)"."""
    from shlex import quote

    from fleetmeter_local import stack as stacks

    stack = _stack(data_dir)
    for name, value in stacks.sdk_environment(stack, _key(stack, None, project)).items():
        typer.echo(f"export {name}={quote(value)}")


@keys_app.command("create")
def keys_create(
    project: Annotated[
        str, typer.Option("--project", help="The project's name; made if it is not there.")
    ],
    data_dir: DataDir = None,
    idle_timeout: Annotated[
        str | None,
        typer.Option("--idle-timeout", help="Silence that ends a session, such as 30m or 20s."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make an API key, told this once; an idle timeout given becomes the project's."""
    from fleetmeter_local import durations, keys
    from fleetmeter_local import stack as stacks

    timeout_ms = durations.parse_ms(idle_timeout) if idle_timeout else None
    stack = _running(data_dir)
    made = keys.create(stack.control, project=project, idle_timeout_ms=timeout_ms)
    stacks.keep_project_key(stack.data_dir, made.project_id, made.api_key)
    if as_json:
        _print_json({"project_id": made.project_id, "api_key": made.api_key})
    else:
        typer.echo(f"project {project} ({made.project_id})\nAPI key {made.api_key}")


@keys_app.command("list")
def keys_list(data_dir: DataDir = None, *, as_json: Json = False) -> None:
    """List projects and keys; the keys themselves are not known."""
    from fleetmeter_local import keys, keys_view

    registry = keys.read(_running(data_dir).control)
    if as_json:
        _print_json(keys_view.as_json(registry))
    else:
        _print(keys_view.table(registry))


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="The key, or its id from `keys list`.")],
    data_dir: DataDir = None,
) -> None:
    """Revoke a key: what is written with it from now on is rejected."""
    from fleetmeter_local import keys

    revoked = keys.revoke(_running(data_dir).control, key)
    typer.echo(f"Key {keys.short_id(revoked)} (…{revoked['hint']}) is revoked.")


@app.command()
def replay(  # noqa: PLR0917 - typer passes them by name
    file: Annotated[Path, typer.Argument(help="Recorded sessions, .jsonl or .jsonl.gz.")],
    data_dir: DataDir = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="FLEETMETER_API_KEY", help="Default: the stack's own."),
    ] = None,
    writers: Annotated[
        int, typer.Option("--writers", min=1, max=64, help="Writer processes.")
    ] = WRITERS_DEFAULT,
    speed: Annotated[
        str, typer.Option("--speed", help="`max`, or how many times faster than recorded.")
    ] = "max",
    wait: Annotated[
        str | None,
        typer.Option("--wait", help="For sessions to end; default: the idle timeout and a little."),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Stream recorded sessions through the stack and compare; exit 1 if anything differs."""
    from fleetmeter_local import replay as replays
    from fleetmeter_local import replay_view

    stack = _running(data_dir)
    options = replays.options(file=file, writers=writers, speed=speed, wait=wait)
    with replay_view.bars() as display:
        result = replays.replay(stack, _key(stack, api_key, None), options, display)
    if as_json:
        _print_json(replays.as_json(result))
    else:
        _print(replay_view.report(result))
    if result.mismatches:
        raise typer.Exit(EXIT_DIFFERS)


@app.command()
def sessions(
    session_id: Annotated[str | None, typer.Argument(help="One session's stats.")] = None,
    data_dir: DataDir = None,
    project: ProjectName = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many at most.")] = 20,
    *,
    as_json: Json = False,
) -> None:
    """List sessions, newest first, or show one; `run sessions` is the processor."""
    from urllib.parse import quote

    from fleetmeter_local import sessions_view

    api = _api(_running(data_dir), project)
    if session_id is None:
        answer = api.get("/v1/sessions", limit=limit)
        show = sessions_view.listed
    else:
        answer = api.get(f"/v2/sessions/{quote(session_id, safe='')}/stats")
        show = sessions_view.one
    if as_json:
        _print_json(answer)
    else:
        _print(show(answer))


@app.command()
def verify(
    data_dir: DataDir = None,
    project: ProjectName = None,
    session: Annotated[str | None, typer.Option("--session", help="One session only.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Compare sessions with a recomputation from their events; exit 1 if any differ."""
    from fleetmeter_local import verification

    api = _api(_running(data_dir), project)
    found = verification.verify(api, session)
    if as_json:
        _print_json(verification.as_json(found))
    else:
        _print(verification.shown(found))
    if not found.agree:
        raise typer.Exit(EXIT_DIFFERS)


@app.command()
def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Default: a temporary folder, removed at the end."),
    ] = None,
    writers: Annotated[
        int, typer.Option("--writers", min=1, max=64, help="Writer processes.")
    ] = WRITERS_DEFAULT,
) -> None:
    """Start everything, stream the recorded sessions through it, show, verify, stop."""
    from fleetmeter_local import demo as show

    if not show.run(data_dir, writers):
        raise typer.Exit(EXIT_DIFFERS)


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Create what topics and tables are missing, here or where FLEETMETER_… points."""
    _become("migrate", data_dir)


@app.command()
def meter(data_dir: DataDir = None) -> None:
    """Run a meter: judges and prices events. Settings: FLEETMETER_… variables."""
    _become("meter", data_dir)


@app.command()
def lander(data_dir: DataDir = None) -> None:
    """Run a lander: brings events and sessions to the tables."""
    _become("lander", data_dir)


@app.command("run")
def run_process(
    name: Annotated[str, typer.Argument(help="meter, sessions, lander, api or migrate.")],
    data_dir: DataDir = None,
) -> None:
    """Run one service, as `python -m` does; beside a local stack with that stack's settings."""
    _become(name, data_dir)


def _become(name: str, data_dir: Path | None) -> Never:
    from fleetmeter_local import services

    command, environ = services.command(name, _folder(data_dir), os.environ)
    sys.stdout.flush()
    os.execve(command[0], command, environ)  # noqa: S606 - signals are for the service itself


def _folder(given: Path | None) -> Path:
    if given is not None:
        return given.expanduser().resolve()
    from fleetmeter_local import stack as stacks

    return stacks.data_dir_default()


def _stack(data_dir: Path | None) -> "Stack":
    from fleetmeter_local import stack as stacks

    return stacks.existing(_folder(data_dir))


def _running(data_dir: Path | None) -> "Stack":
    from fleetmeter_local import lifecycle

    stack = _stack(data_dir)
    lifecycle.require_running(stack)
    return stack


def _key(stack: "Stack", api_key: str | None, project: str | None) -> str:
    from fleetmeter_local import keys
    from fleetmeter_local import stack as stacks

    if api_key:
        return api_key.strip()
    if project in (None, stacks.PROJECT_DEFAULT):
        return stacks.api_key(stack.data_dir)
    found = keys.read(stack.control).project_named(project)
    if found is None:
        raise ConfigError(f"there is no project {project} (see fleetmeter keys list)")
    kept = stacks.kept_keys(stack.data_dir).get(found["project_id"])
    if kept is None:
        raise ConfigError(
            f"no key of project {project} is kept here"
            f" (make one: fleetmeter keys create --project {project})"
        )
    return kept


def _api(stack: "Stack", project: str | None) -> "ApiReader":
    from fleetmeter_local.observed import ApiReader

    return ApiReader(url=stack.api_url, api_key=_key(stack, None, project))


def _print(shown: "RenderableType") -> None:
    from fleetmeter_local import screen

    screen.console().print(shown)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
