"""Whole programs in processes of their own: how they end, fork, and what is then in the log."""

import signal
import subprocess
import textwrap
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fleetmeter_schemas.records import Event

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., subprocess.Popen[str]]
Written = Callable[[], list[Event]]
OPENING = """\
import os, signal, sys, time
import fleetmeter
from fleetmeter import ActionEvent
"""


def program(body: str) -> str:
    """The body behind the usual imports."""
    return OPENING + textwrap.dedent(body)


WAITING = program("""
    fleetmeter.init()
    fleetmeter.record(ActionEvent("search"))
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
""")


def kinds(records: list[Event]) -> list[str]:
    """The kinds of the records, in order."""
    return [record["kind"] for record in records]


def end_of(records: list[Event]) -> dict[str, Any]:
    """What the one session_ended says."""
    (end,) = [record for record in records if record["kind"] == "session_ended"]
    detail: Any = end["detail"]
    return dict(detail)


def test_the_documented_snippet(run_program: Run, written: Written) -> None:
    """The snippet of AgentOps' documentation works with only the import changed."""
    status, out, err = run_program("""
        import fleetmeter as agentops
        from fleetmeter import ActionEvent

        session = agentops.init(tags=["docs"])
        agentops.record(ActionEvent("llms"))
        agentops.record(ActionEvent("tools"))
        print(session.get_analytics())
        print(agentops.end_session("Success"))
    """)
    duration = out.split("'Duration': '")[1].split("s'")[0]
    assert float(duration) < 10
    assert (status, err, out) == (
        0,
        "",
        f"{{'LLM calls': 1, 'Tool calls': 1, 'Actions': 0, 'Errors': 0, 'Duration': '{duration}s', 'Cost': '0.00'}}\nNone\n",  # noqa: E501 - as printed
    )
    records = written()
    assert kinds(records) == ["session_started", "llm", "tool", "session_ended"]
    assert [record["sequence"] for record in records] == [1, 2, 3, 4]
    assert end_of(records)["last_sequence"] == 4
    assert end_of(records)["end_state"] == "Success"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_session(
    number: signal.Signals, start_program: Start, written: Written
) -> None:
    """The session ends as Failure with the signal's name, and the signal still kills."""
    process = start_program(WAITING)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)
    records = written()
    assert kinds(records) == ["session_started", "action", "session_ended"]
    assert end_of(records) == {
        "end_state": "Failure",
        "end_state_said": "Failure",
        "reason": f"Signal {number.name} detected",
        "last_sequence": 3,
        "video": None,
    }


def test_a_previous_handler_is_called(run_program: Run, written: Written) -> None:
    """A handler that was there before decides what happens next; all open sessions have ended."""
    status, out, _ = run_program(
        program("""
        signal.signal(signal.SIGTERM, lambda number, frame: print("mine", number))
        fleetmeter.init()
        fleetmeter.start_session()
        os.kill(os.getpid(), signal.SIGTERM)
        sys.exit(3)
    """)
    )
    assert (status, out) == (3, "mine 15\n")
    assert Counter(kinds(written())) == {"session_started": 2, "session_ended": 2}


def test_ignored_signals_stay_ignored(run_program: Run, written: Written) -> None:
    """Where a signal does nothing, it ends no session either."""
    status, _, _ = run_program(
        program("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        fleetmeter.init()
        os.kill(os.getpid(), signal.SIGINT)
    """)
    )
    assert (status, kinds(written())) == (0, ["session_started"])


def test_an_uncaught_exception_ends_the_session(run_program: Run, written: Written) -> None:
    """The reason holds message and traceback; Python reports and exits as ever."""
    status, _, err = run_program(
        program("""
        fleetmeter.init()
        raise LookupError("the lost key")
    """)
    )
    end = end_of(written())
    assert (status, end["end_state"]) == (1, "Failure")
    assert end["reason"].startswith("LookupError: the lost key\nTraceback (most recent")
    assert err.endswith("LookupError: the lost key\n")


def test_redaction_covers_the_reason(run_program: Run, written: Written) -> None:
    """With a redaction hook an uncaught exception tells its type and nothing else."""
    run_program(
        program("""
        fleetmeter.init(before_send=lambda event: event)
        raise LookupError("the lost key")
    """)
    )
    assert end_of(written())["reason"] == "LookupError"


@pytest.mark.parametrize("ending", ["pass", "sys.exit(4)"])
def test_a_normal_exit_leaves_the_session_open(
    ending: str, run_program: Run, written: Written
) -> None:
    """Everything recorded is delivered at exit, and the end is left to the timeout."""
    status, _, err = run_program(
        program(f"""
        fleetmeter.init()
        for _ in range(500):
            fleetmeter.record(ActionEvent("search"))
        {ending}
    """)
    )
    assert (status, err) == (4 if "exit" in ending else 0, "")
    assert Counter(kinds(written())) == {"session_started": 1, "action": 500}


def test_handlers_can_be_left_out(run_program: Run, written: Written) -> None:
    """With the opt-out nothing is installed."""
    status, out, _ = run_program(
        program("""
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook
        fleetmeter.init()
        after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook
        print(before == after)
    """),
        FLEETMETER_CRASH_HANDLERS="false",
    )
    assert (status, out, kinds(written())) == (0, "True\n", ["session_started"])


def test_closing_puts_the_handlers_back(run_program: Run) -> None:
    """The last client takes its handlers along; threads other than the main one install none."""
    status, out, _ = run_program(
        program("""
        import threading
        def handlers():
            return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook
        before = handlers()
        fleetmeter.init(); fleetmeter.init(); inside = handlers(); fleetmeter.close()
        print(before == inside, before == handlers())
        thread = threading.Thread(target=fleetmeter.init)
        thread.start(); thread.join()
        print(before[:2] == handlers()[:2])
    """)
    )
    assert (status, out) == (0, "False True\nTrue\n")


def test_no_thread_before_init(run_program: Run) -> None:
    """Importing starts no thread and loads neither Kafka nor Avro."""
    status, out, _ = run_program("""
        import sys, threading
        import fleetmeter
        heavy = {"confluent_kafka", "fastavro", "asyncio", "urllib.request"} & sys.modules.keys()
        print(threading.active_count(), heavy)
    """)
    assert (status, out) == (0, "1 set()\n")


def test_a_bare_init_says_what_to_do(run_program: Run) -> None:
    """Without settings the error names the variable and the command that sets it."""
    status, _, err = run_program("import fleetmeter; fleetmeter.init()", FLEETMETER_API_KEY="")
    assert status == 1
    assert err.splitlines()[-1] == (
        "fleetmeter_schemas.errors.ConfigError: no API key. Give it as argument or set "
        'FLEETMETER_API_KEY. Beside a running local stack, `eval "$(fleetmeter env)"` '
        "sets everything that is needed."
    )


def streams(records: list[Event]) -> dict[str, list[int]]:
    """The sequence numbers of each writer, ascending."""
    found: dict[str, list[int]] = {}
    for record in records:
        found.setdefault(record["writer_id"], []).append(record["sequence"])
    return {writer: sorted(numbers) for writer, numbers in found.items()}


def test_a_fork_writes_for_itself(run_program: Run, written: Written) -> None:
    """A child has its own writer and numbers, delivers at its exit, and leaves the parent be."""
    status, _, err = run_program(
        program("""
        session = fleetmeter.init()
        for _ in range(10):
            fleetmeter.record(ActionEvent("before"))
        pid = os.fork()
        for _ in range(20):
            fleetmeter.record(ActionEvent("parent" if pid else "child"))
        if pid:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            fleetmeter.end_session("Success")
    """)
    )
    assert (status, err) == (0, "")
    records = written()
    assert sorted(streams(records).values()) == [list(range(1, 21)), list(range(1, 33))]
    assert Counter(record["name"] for record in records if record["kind"] == "action") == {
        "before": 10,
        "parent": 20,
        "child": 20,
    }
    assert end_of(records)["last_sequence"] == 32


def test_joining_again_goes_on_counting(run_program: Run, written: Written) -> None:
    """Two objects for one session in one process share its numbers; a fork's init joins anew."""
    status, _, err = run_program(
        program("""
        session = fleetmeter.init()
        fleetmeter.start_session(inherited_session_id=session.session_id)
        session.record(ActionEvent())
        pid = os.fork()
        if not pid:
            own = fleetmeter.init()
            assert own.session_id != session.session_id
            joined = fleetmeter.init(inherited_session_id=session.session_id)
            session.record(ActionEvent())
            joined.end_session("Success")
            own.end_session("Success")
        else:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """)
    )
    assert (status, err) == (0, "")
    records = written()
    by_session = {record["session_id"]: 0 for record in records}
    found = [
        streams([record for record in records if record["session_id"] == session])
        for session in by_session
    ]
    numbers = sorted(numbers for each in found for numbers in each.values())
    assert numbers == [[1, 2], [1, 2, 3], [1, 2, 3]]


def test_a_killed_child_does_not_end_the_parents_session(
    run_program: Run, written: Written
) -> None:
    """What ends a forked child, a signal or an exception, says nothing about the session."""
    status, out, _ = run_program(
        program("""
        session = fleetmeter.init()
        for how in ("signal", "exception"):
            pid = os.fork()
            if not pid:
                fleetmeter.record(ActionEvent("child"))
                if how == "signal":
                    os.kill(os.getpid(), signal.SIGTERM)
                raise LookupError
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        fleetmeter.end_session("Success")
    """)
    )
    assert (status, out) == (0, "-15\n1\n")
    records = written()
    assert end_of(records)["end_state"] == "Success"
    assert Counter(kinds(records))["action"] == 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, run_program: Run, written: Written) -> None:
    """Workers of multiprocessing deliver before they end, although they skip atexit."""
    status, _, err = run_program(
        program(f"""
    import multiprocessing

    def work(session_id):
        fleetmeter.init(inherited_session_id=session_id)
        for _ in range(50):
            fleetmeter.record(ActionEvent("child"))

    if __name__ == "__main__":
        session = fleetmeter.init()
        context = multiprocessing.get_context("{method}")
        workers = [context.Process(target=work, args=(session.session_id,)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        fleetmeter.end_session("Success")
    """)
    )
    assert (status, err) == (0, "")
    records = written()
    assert Counter(kinds(records))["action"] == 100
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in streams(records).values())
    assert len(streams(records)) == 3
    assert len({record["session_id"] for record in records}) == 1


def test_a_pool_of_forks_without_init(run_program: Run, written: Written) -> None:
    """Workers that merely inherit the session deliver too, and a terminated pool ends nothing."""
    status, _, err = run_program(
        program("""
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing

    def work(number):
        fleetmeter.record(ActionEvent("child"))
        fleetmeter.flush()
        return number

    session = fleetmeter.init()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, range(10)) == list(range(10))
    fleetmeter.end_session("Success")
    """)
    )
    assert (status, err) == (0, "")
    records = written()
    assert Counter(kinds(records)) == {"session_started": 1, "action": 10, "session_ended": 1}
    assert end_of(records)["end_state"] == "Success"


def test_a_heartbeat_after_silence(run_program: Run, written: Written) -> None:
    """A silent open session says that it lives, with the last number; an ended one does not."""
    run_program(
        program("""
        ended = fleetmeter.start_session()
        ended.end_session()
        session = fleetmeter.init()
        fleetmeter.record(ActionEvent("search"))
        time.sleep(1.6)
    """),
        FLEETMETER_HEARTBEAT_INTERVAL_MS="400",
    )
    beats = [record for record in written() if record["kind"] == "heartbeat"]
    assert 1 <= len(beats) <= 4
    assert {beat["sequence"] for beat in beats} == {2}
    assert len({beat["session_id"] for beat in beats}) == 1


def test_a_second_signal_does_not_wait(start_program: Start) -> None:
    """Without a broker the first signal waits for delivery, the second ends the process at once."""
    process = start_program(
        WAITING, FLEETMETER_BOOTSTRAP_SERVERS="127.0.0.1:1", FLEETMETER_FLUSH_TIMEOUT_MS="25000"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM


def test_exit_without_a_broker_is_bounded(run_program: Run) -> None:
    """At exit the wait for a broker that is away ends, and the log says what was lost."""
    status, out, err = run_program(
        program("""
        import logging
        logging.basicConfig(format="%(message)s")
        logging.getLogger("fleetmeter.kafka").setLevel(logging.CRITICAL)
        fleetmeter.init()
        fleetmeter.record(ActionEvent())
        print(fleetmeter.end_session("Success"), fleetmeter.flush(0).pending)
    """),
        FLEETMETER_BOOTSTRAP_SERVERS="127.0.0.1:1",
        FLEETMETER_API_URL="http://127.0.0.1:1",
        FLEETMETER_FLUSH_TIMEOUT_MS="200",
    )
    assert (status, out) == (0, "None 3\n")
    assert "cost.unknown" in err
    assert "client.closed dropped={'not_delivered': 3}" in err


def test_a_hook_can_come_from_the_environment(run_program: Run, written: Written) -> None:
    """FLEETMETER_BEFORE_SEND names a function to import."""
    run_program(
        program("""
        sys.modules["hooks"] = sys.modules["__main__"]
        def drop(event):
            return None
        fleetmeter.init()
        fleetmeter.record(ActionEvent())
    """),
        FLEETMETER_BEFORE_SEND="hooks:drop",
    )
    assert kinds(written()) == ["session_started"]
