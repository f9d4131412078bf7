import json
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from fleetmeter_schemas.identity import CHECKPOINT_KEY
from lander_records import block, checkpoint, event, reject, snapshot
from lander_stack import Process, Stack, wait_for

MONTH_US = 31 * 86_400_000_000
COUNT = "SELECT count() FROM {db}.events FINAL"


def ready(process: Process) -> Process:
    """Wait until a process is ready."""
    wait_for(lambda: process.status("/ready") == 200)
    return process


def test_what_counts_is_landed_and_nothing_else(stack: Stack) -> None:
    """Events and rejects of accepted blocks, and each part's last snapshot; no zombie's block."""
    epoch = stack.barrier(1)
    stack.append(
        "metered.v1",
        1,
        block(
            epoch=epoch,
            first=0,
            following=3,
            events=[event(0, partition=1), event(1, partition=1, kind="llm")],
            rejects=[reject(2, partition=1)],
        ),
    )
    stack.append("metered.v1", 1, block(epoch=-1, first=3, following=4, events=[event(3)]))
    last = stack.append("metered.v1", 1, block(epoch=epoch, first=3, following=5))
    for value in (
        snapshot(next=1),
        snapshot(next=4, tags=["a", "b"], agents={"1": "one"}),
        None,
        snapshot(part=4, next=5, complete=True),
    ):
        stack.append("sessions.v1", 1, value, b"p/s")
    stack.append("sessions.v1", 1, checkpoint(1), CHECKPOINT_KEY)
    with stack.started("lander") as lander:
        wait_for(lambda: stack.committed("metered.v1", 1).offset == last + 1)
        wait_for(lambda: stack.committed("sessions.v1", 1).offset == 5)
        assert 1 == lander.metric("fleetmeter_lander_blocks_skipped_total")
        assert 1 == lander.metric('fleetmeter_lander_dead_letters_total{reason="api_key"}')
        wait_for(
            lambda: (
                lander.metric(
                    "fleetmeter_lander_lag_records"
                    f'{{partition="1",topic="{stack.namespace}.metered.v1"}}'
                )
                == 0
            )
        )
    position = json.loads(stack.committed("metered.v1", 1).metadata or "")
    assert {"metered_offset": last, "epoch": epoch, "next": 5} == position
    events = stack.query(
        "SELECT event_id, kind, partition, offset FROM {db}.events ORDER BY offset"
    )
    assert "event-0\taction\t1\t0\nevent-1\tllm\t1\t1" == events
    sessions = "SELECT part, next, tags, agents, complete FROM {db}.sessions ORDER BY part"
    assert "0\t4\t['a','b']\t{'1':'one'}\t\\N\n4\t5\t[]\t{}\ttrue" == stack.query(sessions)
    letters = "SELECT partition, offset, reason, hex(key), hex(value) FROM {db}.dead_letters"
    assert "1\t2\tapi_key\t6B657920FF\t76616C75652000FF" == stack.query(letters)


def test_a_quiet_stream_is_visible_within_a_second(stack: Stack) -> None:
    """An event takes less than a second from append to SQL (the best of nine: shared machine)."""
    with stack.started("lander") as lander:
        ready(lander)
        epoch = stack.barrier(0)
        waits = []
        for number in range(9):
            row = event(number, log_time_ms=int(time.time() * 1000))
            value = block(epoch=epoch, first=number, following=number + 1, events=[row])
            stack.append("metered.v1", 0, value)
            waits.append(wait_for(lambda seen=number: int(stack.query(COUNT)) > seen))  # type: ignore[misc]
        assert min(waits) < 1.0, waits
        assert 9 == lander.metric("fleetmeter_lander_event_to_visible_seconds_count")


def test_one_batch_may_hold_events_of_many_months(stack: Stack) -> None:
    """The store's limit of 100 partitions an insert is not ours: 120 start months are landed."""
    epoch = stack.barrier(0)
    rows = [event(n, first_start_time_us=1_000_000_000_000_000 + n * MONTH_US) for n in range(120)]
    stack.append("metered.v1", 0, block(epoch=epoch, first=0, following=120, events=rows))
    with stack.started("lander"):
        wait_for(lambda: stack.committed("metered.v1", 0).offset == 2)
    months = stack.query("SELECT uniqExact(toYYYYMM(first_start_time_us)) FROM {db}.events")
    assert ("120", "120") == (stack.query(COUNT), months)


def test_a_body_that_runs_past_its_end_spoils_no_neighbour(stack: Stack) -> None:
    """Rows of other blocks are landed byte for byte; the forged block is a dead letter."""
    epoch = stack.barrier(0)
    neighbours = [event(n, project_id=f"tenant-{n}", input="x" * n, output="é") for n in (0, 2)]
    forged = event(1)[:-1] + b"\xff" * 40
    for number, row in enumerate((neighbours[0], forged, neighbours[1])):
        value = block(epoch=epoch, first=number, following=number + 1, events=[row])
        stack.append("metered.v1", 0, value)
    stack.append("metered.v1", 0, block(epoch=epoch, first=3, following=4, events=[event(3)]))
    with stack.started("lander"):
        wait_for(lambda: stack.committed("metered.v1", 0).offset == 5)
    rows = stack.query(
        "SELECT offset, project_id, input, output FROM {db}.events WHERE offset IN (0, 2)"
        " ORDER BY offset"
    )
    assert "0\ttenant-0\t\té\n2\ttenant-2\txx\té" == rows
    letter = stack.query("SELECT offset, reason, hex(value) FROM {db}.dead_letters")
    assert f"1\tunlandable\t{forged.hex().upper()}" == letter


def test_one_bad_row_among_many_is_found(stack: Stack) -> None:
    """A number that the engine cannot take makes a dead letter of its row alone."""
    epoch = stack.barrier(0)
    rows = [event(n, **({"revision": 2**40} if n == 333 else {})) for n in range(500)]
    stack.append("metered.v1", 0, block(epoch=epoch, first=0, following=500, events=rows))
    with stack.started("lander") as lander:
        wait_for(lambda: stack.committed("metered.v1", 0).offset == 2)
        assert 1 == lander.metric('fleetmeter_lander_dead_letters_total{reason="unlandable"}')
    assert "499" == stack.query("SELECT uniqExact(offset) FROM {db}.events")
    letters = stack.query("SELECT offset, reason, key FROM {db}.dead_letters")
    assert "333\tunlandable\tsession-333" == letters


def test_killed_at_any_moment_it_goes_on_where_it_stood(stack: Stack) -> None:
    """After kill -9 again and again every event is there once, and none is missing."""
    epoch = stack.barrier(0)
    for number in range(200):
        rows = [event(number * 5 + n) for n in range(5)]
        value = block(epoch=epoch, first=number * 5, following=number * 5 + 5, events=rows)
        stack.append("metered.v1", 0, value)
        if number % 60 == 59:
            with stack.started("lander", FLEETMETER_LANDER_BATCH_BYTES_MAX="1000") as lander:
                wait_for(lambda: stack.committed("metered.v1", 0).offset > 0)
                lander.kill()
    with stack.started("lander"):
        wait_for(lambda: stack.committed("metered.v1", 0).offset == 201)
    assert "1000" == stack.query(COUNT)


def test_two_landers_share_the_partitions(stack: Stack) -> None:
    """A second one takes over a part, and all of it when the first one stops; nothing is lost."""
    epochs = {partition: stack.barrier(partition) for partition in (0, 1)}

    def feed(first: int) -> None:
        for partition, epoch in epochs.items():
            row = event(first, event_id=f"{partition}-{first}", partition=partition)
            value = block(epoch=epoch, first=first, following=first + 1, events=[row])
            stack.append("metered.v1", partition, value)

    quick = {"FLEETMETER_LANDER_MEMBER_TIMEOUT_MS": "6000"}
    with stack.started("lander", FLEETMETER_INSTANCE_ID="a", **quick) as first:
        ready(first)
        for number in range(20):
            feed(number)
        with stack.started("lander", FLEETMETER_INSTANCE_ID="b", **quick) as second:
            for number in range(20, 60):
                feed(number)
                time.sleep(0.05)
            ready(second)
            assert 0 == first.stop()
            for number in range(60, 80):
                feed(number)
            wait_for(lambda: stack.committed("metered.v1", 0).offset == 81)
            wait_for(lambda: stack.committed("metered.v1", 1).offset == 81)
    assert "160" == stack.query(COUNT)


def test_two_under_one_name_do_not_fight(stack: Stack) -> None:
    """The second process takes over, and the first one says what is wrong and ends."""
    with stack.started("lander") as first:
        ready(first)
        with stack.started("lander") as second:
            assert 2 == first.exit_status()
            assert "FLEETMETER_INSTANCE_ID" in first.log.read_text().splitlines()[-1]
            epoch = stack.barrier(0)
            value = block(epoch=epoch, first=0, following=1, events=[event(0)])
            stack.append("metered.v1", 0, value)
            wait_for(lambda: stack.committed("metered.v1", 0).offset == 2)
            assert 200 == second.status("/ready")


def test_it_waits_for_a_store_that_is_away(
    stack: Stack,
    run_store: Callable[[Path], AbstractContextManager[Any]],
    tmp_path: Path,
) -> None:
    """Offsets stay while the store sleeps, and follow when it wakes; once killed, health is red."""
    folder = tmp_path / "store"
    folder.mkdir()
    epoch = stack.barrier(0)
    with run_store(folder) as own:
        stack.store_url, stack.store_user = own.address.url, own.address.user
        stack.store_password = own.address.password
        assert 0 == stack.run("migrate").returncode
        with stack.started("lander") as lander:
            ready(lander)
            stack.append(
                "metered.v1", 0, block(epoch=epoch, first=0, following=1, events=[event(0)])
            )
            wait_for(lambda: stack.committed("metered.v1", 0).offset == 2)
            own.process.send_signal(signal.SIGSTOP)
            value = block(epoch=epoch, first=1, following=2, events=[event(1)])
            stack.append("metered.v1", 0, value)
            time.sleep(1)
            assert 2 == stack.committed("metered.v1", 0).offset
            own.process.send_signal(signal.SIGCONT)
            wait_for(lambda: stack.committed("metered.v1", 0).offset == 3)
            wait_for(lambda: lander.status("/ready") == 200)
            own.process.kill()
            own.process.wait()
            value = block(epoch=epoch, first=2, following=3, events=[event(2)])
            stack.append("metered.v1", 0, value)
            wait_for(lambda: lander.status("/health") == 503)
            assert 503 == lander.status("/ready")
            assert 3 == stack.committed("metered.v1", 0).offset
            assert 0 == lander.stop()


def test_a_position_that_is_gone_stops_it_with_one_line(stack: Stack, broker: str) -> None:
    """Records that retention took before they were landed are not passed over."""
    epoch = stack.barrier(0)
    with stack.started("lander"):
        wait_for(lambda: stack.committed("metered.v1", 0).offset == 1)
    for number in range(3):
        stack.append("metered.v1", 0, block(epoch=epoch, first=number, following=number + 1))
    metered = TopicPartition(f"{stack.namespace}.metered.v1", 0, 3)
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.delete_records([metered]).values():
        future.result(20)
    with stack.started("lander") as lander:
        assert 2 == lander.exit_status()
        (line,) = [text for text in lander.log.read_text().splitlines() if "lost" in text]
    assert line.startswith(f"fleetmeter lander: {stack.namespace}.metered.v1, partition 0: ")
    assert 1 == stack.committed("metered.v1", 0).offset


def test_asked_to_stop_it_lands_what_it_holds(stack: Stack) -> None:
    """What was gathered but not inserted yet is landed and committed before the end."""
    patient = {
        "FLEETMETER_LANDER_BATCH_QUIET_MS": "60000",
        "FLEETMETER_LANDER_BATCH_WAIT_MS": "60000",
    }
    with stack.started("lander", **patient) as lander:
        ready(lander)
        epoch = stack.barrier(0)
        value = block(epoch=epoch, first=0, following=1, events=[event(0)])
        stack.append("metered.v1", 0, value)
        time.sleep(1.5)
        assert -1001 == stack.committed("metered.v1", 0).offset
        assert 0 == lander.stop()
    assert 2 == stack.committed("metered.v1", 0).offset
    assert "1" == stack.query(COUNT)
