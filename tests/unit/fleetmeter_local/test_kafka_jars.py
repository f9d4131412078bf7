import hashlib
from functools import partial
from pathlib import Path

import pytest
from jgo.maven import MavenContext

from fleetmeter_local import kafka_jars
from fleetmeter_local.kafka_jars import Jar
from fleetmeter_schemas.errors import ConfigError

CONTENT = b"a jar"
JAR = Jar(
    sha256=hashlib.sha256(CONTENT).hexdigest(), group="org.example", name="thing", version="1.2"
)


def put(cache: Path, content: bytes) -> Path:
    """Put a file where the cache keeps the jar."""
    path = JAR.path_under(cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_the_list_pins_a_whole_broker() -> None:
    """Every jar is pinned once; the broker and a logging binding are among them."""
    jars = kafka_jars.pinned()
    names = [jar.name for jar in jars]
    assert len(set(names)) == len(names)
    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl"} <= set(names)
    assert {64} == {len(jar.sha256) for jar in jars}


def test_all_parts_of_kafka_have_one_version() -> None:
    """No dependency took a part of Kafka to another version."""
    versions = {jar.version for jar in kafka_jars.pinned() if jar.group == "org.apache.kafka"}
    assert len(versions) == 1


def test_what_is_cached_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached jar needs no network."""
    path = put(tmp_path, CONTENT)
    monkeypatch.setattr("jgo.maven.MavenContext", None)
    assert [path] == kafka_jars.prepare([JAR], tmp_path)


def test_a_wrong_jar_is_named(tmp_path: Path) -> None:
    """A cached jar with another content is refused by its coordinates."""
    put(tmp_path, b"something else")
    with pytest.raises(ConfigError, match=r"org\.example:thing:1\.2 is not the pinned jar"):
        kafka_jars.prepare([JAR], tmp_path)


def test_a_jar_that_cannot_be_fetched_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network the error names the jar that is missing."""
    monkeypatch.setattr("jgo.maven.MavenContext", partial(MavenContext, offline=True))
    with pytest.raises(ConfigError, match=r"cannot fetch org\.example:thing:1\.2"):
        kafka_jars.prepare([JAR], tmp_path)
    assert not JAR.path_under(tmp_path).exists()


class Repository:
    """A repository that hands out the same content whatever it is asked for."""

    content = b""

    def __init__(self, repo_cache: Path) -> None:
        self._path = repo_cache / "download"

    def project(self, *_: str) -> "Repository":
        """Stand for the project."""
        return self

    at_version = artifact = project

    def resolve(self) -> Path:
        """Download."""
        self._path.write_bytes(self.content)
        return self._path


def test_a_fetched_jar_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar with the pinned content enters the cache, and nothing else does."""
    monkeypatch.setattr("jgo.maven.MavenContext", Repository)
    monkeypatch.setattr(Repository, "content", CONTENT)
    (path,) = kafka_jars.prepare([JAR], tmp_path / "cache")
    assert path.read_bytes() == CONTENT
    assert [path] == [each for each in tmp_path.rglob("*") if each.is_file()]


def test_a_wrong_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that serves something else leaves nothing in the cache."""
    monkeypatch.setattr("jgo.maven.MavenContext", Repository)
    monkeypatch.setattr(Repository, "content", b"something else")
    with pytest.raises(ConfigError, match=r"org\.example:thing:1\.2 is not the pinned jar"):
        kafka_jars.prepare([JAR], tmp_path / "cache")
    assert [] == [each for each in tmp_path.rglob("*") if each.is_file()]


def test_the_cache_follows_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache is in the user's cache folder, wherever that is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in kafka_jars.cache_dir().parents
