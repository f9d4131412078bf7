from pathlib import Path

import pytest

from fleetmeter_local import supervisor
from fleetmeter_local.supervisor import Program
from fleetmeter_schemas.errors import ConfigError

DATA_DIR = Path("/data dir")
SOCKET = Path("/data dir/run/supervisor.sock")


def program(**environment: str) -> Program:
    """Return a program with this environment."""
    return Program(name="meter", command=["true", "a b"], priority=2, environment=environment)


def test_a_program_is_described() -> None:
    """Command and environment so that supervisord reads them back; its files are its owner's."""
    text = supervisor.configuration(DATA_DIR, SOCKET, [program(A="50%, b", C="")])
    assert "'/data dir/run/meter.pid' true 'a b'\n" in text
    assert '\nenvironment=A="50%%, b",C=""\n' in text
    assert "\npriority=2\numask=077\n" in text


@pytest.mark.parametrize("value", ['a"b', "'a", "a'", "a\nb", "a ;b", "a #b"])
def test_what_cannot_be_written_is_refused(value: str) -> None:
    """A value that supervisord would read otherwise is an error at the start."""
    with pytest.raises(ConfigError, match="cannot be told"):
        supervisor.configuration(DATA_DIR, SOCKET, [program(A=value)])
