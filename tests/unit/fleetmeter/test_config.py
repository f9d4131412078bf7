import re
from dataclasses import fields
from pathlib import Path

import pytest

import fleetmeter
from fleetmeter.config import Config, session_id_from, variable
from fleetmeter_schemas.errors import ConfigError

KEY = "3F2F3C1E-0000-4000-8000-000000000001"
NEEDED = {"FLEETMETER_API_KEY": KEY, "FLEETMETER_BOOTSTRAP_SERVERS": "k:9092"}
PAGE = Path(__file__).parents[3] / "docs" / "sdk.md"


def redact(event: fleetmeter.Event) -> fleetmeter.Event:
    """A hook that can be named by a variable."""
    return event


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("tags", "a, b,,c", ("a", "b", "c")),
        ("auto_start_session", "no", False),
        ("crash_handlers", "FALSE", False),
        ("env_data_opt_out", "1", True),
        ("linger_ms", "7", 7),
        ("session_name", "nightly", "nightly"),
        ("kafka_options", '{"debug": "msg"}', {"debug": "msg"}),
        ("before_send", "json:dumps", __import__("json").dumps),
    ],
)
def test_variables(name: str, text: str, expected: object) -> None:
    """A variable's text becomes the option's value."""
    config = Config.from_environment({**NEEDED, variable(name): text})
    assert getattr(config, name) == expected


def test_arguments_win() -> None:
    """What is given wins over the variable, and None counts as not given."""
    config = Config.from_environment({**NEEDED, "FLEETMETER_TAGS": "a"}, tags=["b"], api_url=None)
    assert (config.tags, config.bootstrap_servers) == (("b",), "k:9092")


@pytest.mark.parametrize(
    ("environ", "given", "words"),
    [
        ({}, {}, r"FLEETMETER_API_KEY.*eval \"\$\(fleetmeter env\)\""),
        ({"FLEETMETER_API_KEY": KEY}, {}, "FLEETMETER_BOOTSTRAP_SERVERS.*fleetmeter env"),
        (NEEDED, {"api_key": "secret"}, "not a UUID"),
        (NEEDED, {"namespace": "a-b"}, "namespace"),
        (NEEDED, {"linger_ms": -1}, "linger_ms"),
        (NEEDED, {"queue_events_max": 0}, "queue_events_max"),
        (NEEDED, {"payload_bytes_max": 5_000_000}, "payload_bytes_max"),
        (NEEDED, {"kafka_options": {"acks": 1}}, "cannot change acks"),
        (NEEDED, {"api_url": "ftp://x"}, "http"),
        (NEEDED, {"max_wait_time": 3}, "no such option: max_wait_time"),
        ({**NEEDED, "FLEETMETER_LINGER_MS": "soon"}, {}, "FLEETMETER_LINGER_MS"),
        ({**NEEDED, "FLEETMETER_CRASH_HANDLERS": "maybe"}, {}, "true or false"),
        ({**NEEDED, "FLEETMETER_KAFKA_OPTIONS": "[1]"}, {}, "JSON object"),
        ({**NEEDED, "FLEETMETER_KAFKA_OPTIONS": "{"}, {}, "not JSON"),
        ({**NEEDED, "FLEETMETER_BEFORE_SEND": "no.such:thing"}, {}, "cannot import"),
    ],
)
def test_wrong_settings(environ: dict[str, str], given: dict[str, object], words: str) -> None:
    """Settings that cannot work are refused in a sentence that names the option."""
    with pytest.raises(ConfigError, match=words):
        Config.from_environment(environ, **given).checked()


def test_secrets_do_not_show() -> None:
    """Neither key nor password nor free options appear in the printed settings."""
    config = Config(api_key=KEY, kafka_sasl_password="pass", kafka_options={"sasl.password": "pa"})
    assert not re.search(f"{KEY}|pass'|'pa'", repr(config))


def test_a_key_from_a_file_is_cut() -> None:
    """A line end behind the key would be refused as a header, and told with the key in a log."""
    config = Config.from_environment({**NEEDED, "FLEETMETER_API_KEY": f"{KEY}\n"})
    assert KEY == config.checked().api_key


def test_session_ids_have_one_spelling() -> None:
    """A UUID in any spelling is the same session; what is no id is refused."""
    dashed = "0af76519-16cd-43dd-8448-eb211c80319c"
    assert session_id_from("0AF7651916CD43DD8448EB211C80319C") == dashed
    with pytest.raises(ConfigError, match="session id"):
        session_id_from("")


def test_every_option_is_documented() -> None:
    """docs/sdk.md has a row for each option with its variable and default, and for no others."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE)
    expected = {
        option.name: (variable(option.name), shown(option.name)) for option in fields(Config)
    }
    assert {name: (env, default.strip()) for name, env, default in rows} == expected


def shown(name: str) -> str:
    """An option's default as the page writes it."""
    default = getattr(Config(), name)
    if default in ("", (), {}, None):
        return ""
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"
