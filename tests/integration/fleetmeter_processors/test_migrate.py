from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined] # re-exported silently

from fleetmeter_schemas import tables, topics
from lander_stack import Stack

TABLES = "dead_letters\nevent_list\nevents\nmigrations\nsession_totals\nsessions"


def partitions(stack: Stack) -> dict[str, int]:
    """Return the partition count of each topic of the namespace."""
    found = stack.admin.list_topics(timeout=10).topics
    prefix = f"{stack.namespace}."
    return {
        name.removeprefix(prefix): len(topic.partitions)
        for name, topic in found.items()
        if name.startswith(prefix)
    }


def test_topics_and_tables_are_made_once(unmigrated: Stack) -> None:
    """The first run makes everything, the second one changes nothing."""
    first = unmigrated.run("migrate")
    assert (0, "") == (first.returncode, first.stdout), first.stderr
    assert {"events.v1": 4, "metered.v1": 4, "sessions.v1": 4, "control.v1": 1} == partitions(
        unmigrated
    )
    assert TABLES == unmigrated.query(
        "SELECT name FROM system.tables WHERE database='{db}' ORDER BY 1"
    )
    applied = "SELECT number, applied_at FROM {db}.migrations ORDER BY number"
    before = unmigrated.query(applied)
    assert len(tables.migrations("x")) == len(before.splitlines())
    second = unmigrated.run("migrate")
    assert 0 == second.returncode, second.stderr
    assert before == unmigrated.query(applied)
    assert "topic." not in second.stderr


def test_every_setting_of_the_contract_is_on_the_broker(stack: Stack) -> None:
    """Topics are made as schemas/topics.py says."""
    expected = {topic.name: dict(topic.settings) for topic in topics.ALL}
    actual = {
        topic.name: {name: stack.setting(topic.name, name) for name in topic.settings}
        for topic in topics.ALL
    }
    assert expected == actual


def test_the_partition_count_is_fixed(stack: Stack) -> None:
    """Keys would move to other partitions: another count is refused, none keeps what there is."""
    refused = stack.run("migrate", FLEETMETER_PARTITIONS="3")
    assert 2 == refused.returncode
    assert "FLEETMETER_PARTITIONS is 3, but 2 were fixed" in refused.stderr
    assert 0 == stack.run("migrate").returncode
    assert 2 == partitions(stack)["events.v1"]


def test_a_topic_made_by_somebody_else_is_put_right(unmigrated: Stack) -> None:
    """What changes the meaning of records is repaired; retention is the operator's own."""
    topic = NewTopic(f"{unmigrated.namespace}.events.v1", num_partitions=3, replication_factor=1)
    (future,) = unmigrated.admin.create_topics([topic]).values()
    future.result(10)
    unmigrated.set_setting("events.v1", "retention.ms", "1234567")
    assert 0 == unmigrated.run("migrate").returncode
    assert "LogAppendTime" == unmigrated.setting("events.v1", "message.timestamp.type")
    assert "1234567" == unmigrated.setting("events.v1", "retention.ms")
    assert 3 == partitions(unmigrated)["metered.v1"]


def test_a_run_that_died_in_the_middle_is_continued(stack: Stack) -> None:
    """A step whose statements ran but which was not noted is run again without harm."""
    stack.query("TRUNCATE TABLE {db}.migrations")
    done = stack.run("migrate")
    assert 0 == done.returncode, done.stderr
    assert "4" == stack.query("SELECT count() FROM {db}.migrations")


def test_a_wrong_password_is_said_in_one_line(unmigrated: Stack) -> None:
    """Who may not log in at the store learns that and nothing else."""
    refused = unmigrated.run("migrate", FLEETMETER_STORE_PASSWORD="wrong")
    assert 2 == refused.returncode
    line = refused.stderr.splitlines()[-1]
    assert line.startswith("fleetmeter migrate: the store refuses: ")
    assert "Authentication failed" in line
