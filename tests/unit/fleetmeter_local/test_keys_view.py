import pytest

from fleetmeter_local import keys, keys_view
from fleetmeter_local.keys import Registry
from fleetmeter_schemas.errors import ConfigError
from fleetmeter_schemas.records import ApiKey, Project

KEY = "49060846-a956-4800-bb5c-e833082e7c72"


def registry(*, revoked_at_ms: int | None = None) -> Registry:
    """One project with a key, and one without."""
    hashed = keys.hash_hash(KEY)
    one = Project(project_id="p1", name="one", idle_timeout_ms=20_000, created_at_ms=1)
    two = Project(project_id="p2", name="two", idle_timeout_ms=60_000, created_at_ms=2)
    key = ApiKey(
        key_hash_hash=hashed,
        project_id="p1",
        hint=KEY[-4:],
        created_at_ms=3,
        revoked_at_ms=revoked_at_ms,
    )
    return Registry(projects={"p1": one, "p2": two}, api_keys={hashed: key})


def test_projects_are_listed_with_their_keys() -> None:
    """Also those that have none; the key itself is nowhere."""
    listed = keys_view.as_json(registry())
    assert [("one", 1), ("two", 0)] == [(each["name"], len(each["keys"])) for each in listed]
    assert KEY not in str(listed)
    assert 2 == keys_view.table(registry()).row_count


def test_a_key_is_known_in_every_spelling() -> None:
    """Upper case and braces are the same UUID."""
    for spelling in (KEY.upper(), f"{{{KEY}}}", f" {KEY}"):
        assert "p1" == registry().project_of(spelling)["project_id"]


def test_a_revoked_or_strange_key_is_refused() -> None:
    """And what is no UUID is said to be none."""
    with pytest.raises(ConfigError, match="revoked"):
        registry(revoked_at_ms=4).project_of(KEY)
    with pytest.raises(ConfigError, match="not an API key"):
        registry().project_of("secret")
