import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import typer

from documents import DOCUMENTS, README, ROOT, Block, calls, exists, paths, python_blocks, variables
from fleetmeter import ActionEvent, LLMEvent
from fleetmeter.config import Config
from fleetmeter.config import variable as sdk_variable
from fleetmeter_api.settings import ApiSettings
from fleetmeter_local import commands
from fleetmeter_local.stack import Stack
from fleetmeter_processors import settings
from stack_project import Project, new_project

# Documents besides the README show parts of programs: this is what stands before them.
CONTEXT = """
import fleetmeter
fleetmeter.init()
def look_up():
    return "found"
"""
BLOCKS = [block for document in DOCUMENTS for block in python_blocks(document)]
LOCAL_VARIABLES = {"FLEETMETER_DATA_DIR"}
# The broker's stamps have milliseconds.
CLOCK_STEP = timedelta(milliseconds=1)
# A partition to which nothing happens says every ten seconds how far it is.
IDLE_CHECKPOINT_MAX = timedelta(seconds=20)


@pytest.fixture(scope="module")
def project(stack: Stack) -> Project:
    """A project for all tests here that know their sessions by id."""
    return new_project(stack)


@pytest.fixture(name="fresh")
def fresh_project(stack: Stack) -> Project:
    """A project with nothing in it."""
    return new_project(stack)


def block_id(block: Block) -> str:
    """How a block is called in a test's name."""
    return block.name


@pytest.mark.parametrize("block", BLOCKS, ids=block_id)
def test_python_blocks_run(fresh: Project, tmp_path: Path, block: Block) -> None:
    """Each block ends well, prints what its comments show, and leaves the sessions it speaks of."""
    context = "" if block.name.startswith(README.name) else CONTEXT
    printed = fresh.run(context + block.source, tmp_path)
    assert [without_times(line) for line in block.shown] == [
        without_times(line) for line in printed.splitlines()[: len(block.shown)]
    ]
    if "end_session(" in block.source:
        (stats,) = fresh.listed(1)
        said = re.findall(r'end_session\("(\w+)"', block.source)
        assert said == [stats["end_state"]]
        assert block.source.count("record(") == stats["events"]


def without_times(line: str) -> str:
    """A line that does not tell how long something took."""
    return re.sub(r"'[^']*\d\.\d+s'", "'…s'", line)


def test_the_readme_has_blocks_to_run() -> None:
    """The README shows the SDK in use."""
    assert any(block.name.startswith(README.name) for block in BLOCKS)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda e: e.name)
def test_examples_run_as_they_say(stack: Stack, example: Path) -> None:
    """What stands at the top of an example, typed into a shell beside a stack, does it."""
    docstring = example.read_text().split('"""')[1]
    typed = [line for line in docstring.splitlines() if example.name in line or "eval" in line]
    bin_dir = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euc", "\n".join(typed)],
        cwd=ROOT,
        env={"PATH": f"{bin_dir}:/usr/bin:/bin", "FLEETMETER_DATA_DIR": str(stack.data_dir)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (0, "", 2) == (done.returncode, done.stderr, len(typed))
    # 12 and 7 tokens of gpt-4o-mini.
    assert "cost: 0.000006" == done.stdout.splitlines()[-1]


def test_make_targets_exist() -> None:
    """Every `make` that a document names is one."""
    targets = set(re.findall(r"^([\w.]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words[0] for words in calls("make")}
    assert {"demo", "up", "test"} <= named
    assert set() == {name for name in named if "=" not in name} - targets


def test_commands_exist() -> None:
    """Every `fleetmeter` command that a document names is one, and takes the options shown."""
    found = calls("fleetmeter")
    assert ("env",) in found
    assert {} == {words: why for words in found if (why := unknown_part(words))}


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (("keys", "create", "--project"), ""),
        (("keys", "destroy"), "destroy"),
        (("keys",), "(nothing)"),
        (("up", "--fast"), "--fast"),
    ],
)
def test_an_unknown_command_is_noticed(words: tuple[str, ...], unknown: str) -> None:
    """What the test above looks for is found where it is missing."""
    assert unknown == unknown_part(words)


def unknown_part(words: tuple[str, ...]) -> str:
    """What of a command line `fleetmeter` does not know; empty where it knows all of it."""
    command: Any = typer.main.get_command(commands.app)
    left = list(words)
    while hasattr(command, "commands"):
        name = left.pop(0) if left else "(nothing)"
        if name not in command.commands:
            return name
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    return " ".join({word for word in left if word.startswith("-")} - known)


def test_modules_exist() -> None:
    """Every module that a document runs with `python -m` is one."""
    named = {words[1] for words in calls("python") if words[0] == "-m"}
    assert named
    assert set() == {name for name in named if importlib.util.find_spec(name) is None}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_paths_exist(document: Path) -> None:
    """Every link and every path that a document names leads somewhere."""
    assert set() == {path for path in paths(document) if not exists(path, document)}


def test_variables_exist() -> None:
    """Every environment variable that a document names is read by something."""
    assert set() == variables() - set(known_variables())


def known_variables() -> Iterator[str]:
    """All variables there are."""
    yield from LOCAL_VARIABLES
    yield from (sdk_variable(option.name) for option in fields(Config))
    for each in (*settings.ALL, ApiSettings):
        yield from (f"FLEETMETER_{name.upper()}" for name in each.model_fields)


def test_an_event_counts_once(project: Project) -> None:
    """However often it is sent, and by whomever: one event, one cost."""
    event = LLMEvent(cost="0.000000000001")
    with project.client() as one, project.client() as other:
        session = one.start_session()
        joined = other.start_session(inherited_session_id=session.session_id)
        for _ in range(3):
            session.record(event)
            joined.record(event)
        assert other.flush().complete
        assert "0.000000000001" == session.end_session("Success")
    assert 1 == project.stats(session.session_id)["events"]
    assert [event.id] == [one["id"] for one in project.export(session.session_id)["llms"]]


def test_money_is_exact_and_an_unknown_price_is_null(project: Project) -> None:
    """Sums are those of the decimals that were said; what has no price is counted, not guessed."""
    with project.client() as client:
        session = client.start_session()
        for _ in range(10):
            session.record(LLMEvent(cost="0.1"))
            session.record(LLMEvent(cost="0.000000000007"))
        session.record(LLMEvent(model="nobody-knows", prompt_tokens=5, completion_tokens=5))
        assert "1.00000000007" == session.end_session("Success")
    assert 1 == project.stats(session.session_id)["unpriced_events"]
    llms = project.export(session.session_id)["llms"]
    assert [None] == [one["cost"] for one in llms if one["model"] == "nobody-knows"]
    assert Decimal("1.00000000007") == sum(Decimal(one["cost"]) for one in llms if one["cost"])


@pytest.mark.parametrize("path", ["/v2/sessions/{}/stats", "/v2/sessions/{}/export"])
def test_a_foreign_session_is_like_none(stack: Stack, project: Project, path: str) -> None:
    """Another project's key learns nothing, and what it writes is its own."""
    foreign = new_project(stack)
    with project.client() as client:
        session = client.start_session()
        session.record(ActionEvent("ours"))
        session.end_session("Success")
    seen, absent = foreign.get(path.format(session.session_id)), foreign.get(path.format(uuid4()))
    assert (404, told(absent)) == (seen.status_code, told(seen))
    with foreign.client() as client:
        theirs = client.start_session(inherited_session_id=session.session_id)
        for _ in range(2):
            theirs.record(ActionEvent("theirs"))
        theirs.end_session("Failure")
    ours, theirs_now = project.stats(session.session_id), foreign.stats(session.session_id)
    assert ("Success", 1) == (ours["end_state"], ours["events"])
    assert ("Failure", 2) == (theirs_now["end_state"], theirs_now["events"])


def told(answer: httpx.Response) -> str:
    """Everything an answer tells, but for what names the request."""
    request_id: str = answer.json()["error"]["request_id"]
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return f"{answer.status_code} {headers} {answer.text}".replace(request_id, "…")


def test_every_answer_says_how_fresh_it_is(fresh: Project) -> None:
    """Stats, list and export tell the time up to which everything is contained."""
    with fresh.client() as client:
        session = client.start_session()
        before = datetime.now(UTC) - CLOCK_STEP
        session.end_session("Success")
    (listed,) = fresh.listed(1)
    stats, exported = fresh.stats(session.session_id), fresh.export(session.session_id)
    for answer in (listed, stats, exported["stats"]):
        assert True is answer["caught_up"]
        assert before <= as_of(answer)
    assert before - IDLE_CHECKPOINT_MAX <= as_of(fresh.get("/v1/sessions").json())


def as_of(answer: dict[str, Any]) -> datetime:
    """The time that an answer names, which goes with the lag that it names."""
    time = datetime.fromisoformat(answer["as_of"])
    assert timedelta() <= timedelta(milliseconds=answer["lag_ms"]) <= datetime.now(UTC) - time
    return time
