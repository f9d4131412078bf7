import pytest

from fleetmeter_schemas import definitions, topics
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.topics import Topic

BY_NAME = {topic.name: topic for topic in topics.ALL}


def test_names() -> None:
    """There are four topics, the version in their names."""
    assert ["events.v1", "metered.v1", "sessions.v1", "control.v1"] == list(BY_NAME)


@pytest.mark.parametrize("topic", topics.ALL, ids=lambda topic: topic.name)
def test_records_have_schemas(topic: Topic) -> None:
    """What a topic holds is a record of the contract."""
    assert set() == set(topic.records) - set(definitions.names())


def test_each_record_has_one_topic() -> None:
    """A record that travels alone belongs to one topic."""
    found = sorted(name for topic in topics.ALL for name in topic.records)
    travellers = {
        "ApiKey",
        "Barrier",
        "Block",
        "Checkpoint",
        "Cluster",
        "Event",
        "Project",
        "Snapshot",
    }
    assert sorted(travellers) == found


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("events.v1", "message.timestamp.type", "LogAppendTime"),
        ("events.v1", "retention.ms", "604800000"),
        ("events.v1", "cleanup.policy", None),
        ("metered.v1", "cleanup.policy", None),
        ("sessions.v1", "cleanup.policy", "compact"),
        ("sessions.v1", "segment.bytes", "67108864"),
        ("sessions.v1", "segment.ms", "600000"),
        ("sessions.v1", "min.cleanable.dirty.ratio", "0.1"),
        ("control.v1", "cleanup.policy", "compact"),
    ],
)
def test_settings(name: str, setting: str, expected: str | None) -> None:
    """The settings on which the design depends are as it says."""
    assert expected == BY_NAME[name].settings.get(setting)


def test_sizes_nest() -> None:
    """The largest event fits its topic, and the largest raw record, as a reject, fits a block."""
    raw = int(topics.EVENTS.settings["max.message.bytes"])
    assert topics.EVENT_BYTES_MAX < raw < int(topics.METERED.settings["max.message.bytes"])


def test_control_has_one_partition() -> None:
    """Only control.v1 has one partition; the others have as many as the events."""
    assert [topics.CONTROL] == [topic for topic in topics.ALL if topic.single_partition]


def test_full_name() -> None:
    """The namespace stands before the name."""
    assert "acme.events.v1" == topics.EVENTS.full_name("acme")


def test_control_keys() -> None:
    """A key of control.v1 tells its kind, so that compaction keeps one record each."""
    expected = [b"project:p", b"key:00ff", b"cluster"]
    assert expected == [
        topics.project_key("p"),
        topics.api_key_key(b"\x00\xff"),
        topics.CLUSTER_KEY,
    ]


@pytest.mark.parametrize("namespace", ["fleetmeter", "a", "team_7", "n" * 60])
def test_namespaces(namespace: str) -> None:
    """A namespace is an identifier."""
    assert namespace == topics.checked_namespace(namespace)


@pytest.mark.parametrize("namespace", ["", "7up", "a-b", "a.b", "a b", "größe", "n" * 61, "a;DROP"])
def test_bad_namespaces(namespace: str) -> None:
    """What cannot name a database as it is is refused."""
    with pytest.raises(ConfigError, match="namespace"):
        topics.checked_namespace(namespace)
