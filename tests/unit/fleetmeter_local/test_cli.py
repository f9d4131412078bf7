import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleetmeter_local import cli
from fleetmeter_schemas.errors import ConfigError, Unavailable


def leave(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Run the command line; returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["fleetmeter", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def raising(error: BaseException) -> SimpleNamespace:
    """A command line that ends so."""

    def run(_: list[str]) -> int:
        raise error

    return SimpleNamespace(run=run)


@pytest.mark.parametrize("error", [ConfigError("no such thing"), Unavailable("no such thing")])
def test_what_cannot_be_done_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    """Exit status 2, nothing on stdout, no traceback."""
    monkeypatch.setitem(sys.modules, "fleetmeter_local.commands", raising(error))
    assert 2 == leave(monkeypatch)
    assert ("", "fleetmeter: no such thing\n") == capsys.readouterr()


def fresh(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter that has imported nothing yet."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("missing", ["typer", "psutil"])
def test_a_missing_extra_is_named(tmp_path: Path, missing: str) -> None:
    """The sentence says what to install, whether the lack shows at once or in a command."""
    done = fresh(
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"sys.argv = ['fleetmeter', 'down', '--data-dir', {str(tmp_path)!r}]\n"
        "from fleetmeter_local import cli; cli.main()"
    )
    said = f'pip install "fleetmeter[local]" ({missing} is missing)\n'
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.endswith(said)
    assert 1 == done.stderr.count("\n")


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of ours that is missing is no missing extra."""
    error = ModuleNotFoundError(name="fleetmeter_local.nothing")
    monkeypatch.setitem(sys.modules, "fleetmeter_local.commands", raising(error))
    monkeypatch.setattr(sys, "argv", ["fleetmeter"])
    with pytest.raises(ModuleNotFoundError):
        cli.main()


def test_ctrl_c_is_told_by_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """130, as shells have it."""
    monkeypatch.setitem(sys.modules, "fleetmeter_local.commands", raising(KeyboardInterrupt()))
    assert 130 == leave(monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["env"], "there is no stack in"),
        (["status"], "there is no stack in"),
        (["keys", "list"], "there is no stack in"),
        (["keys", "create", "--project", "x", "--idle-timeout", "soon"], "not a duration"),
        (["verify"], "there is no stack in"),
        (["run", "nothing"], "there is no service nothing"),
    ],
)
def test_every_command_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    """One sentence on stderr, exit status 2."""
    assert 2 == leave(monkeypatch, *arguments, "--data-dir", str(tmp_path))
    said = capsys.readouterr()
    assert sentence in said.err
    assert 1 == said.err.count("\n")


def test_help_needs_nothing_heavy() -> None:
    """No client of Kafka, no HTTP client, no prices are imported for `--help`."""
    done = fresh(
        "import sys; sys.argv = ['fleetmeter', '--help']\n"
        "from fleetmeter_local import cli\n"
        "try: cli.main()\n"
        "finally: sys.stderr.write(' '.join(sys.modules))"
    )
    heavy = {"confluent_kafka", "httpx", "genai_prices", "psutil", "jgo", "fastavro"}
    assert 0 == done.returncode
    assert set() == heavy & set(done.stderr.split())
