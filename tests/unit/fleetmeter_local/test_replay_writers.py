import os
import sys
from pathlib import Path

import pytest

from fleetmeter_local import replay_writers
from fleetmeter_local.replay_writers import Job
from fleetmeter_schemas.errors import ConfigError

SAY = 'import json; print(json.dumps({"acknowledged": %d, "done": %s}), flush=True)\n'
HALF = SAY % (5, "False")
ALL = SAY % (10, "True")
DIE_ONCE = """\
import os, pathlib, signal
marker = pathlib.Path("{marker}")
if not marker.exists():
    marker.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def job(folder: Path, *programs: str) -> Job:
    """One writer for each of these programs."""
    return Job(
        command=lambda writer: [sys.executable, "-c", programs[writer]],
        writers=len(programs),
        environ=dict(os.environ),
        logs=folder,
    )


def test_the_acknowledged_events_of_all_writers_are_summed(tmp_path: Path) -> None:
    """The last word is the sum of what each writer said last."""
    heard: list[int] = []
    replay_writers.run(job(tmp_path, HALF + ALL, ALL), heard.append)
    assert 20 == heard[-1]
    assert heard == sorted(heard)


def test_a_killed_writer_begins_again(tmp_path: Path) -> None:
    """What was acknowledged before the kill is not counted twice."""
    heard: list[int] = []
    dies = HALF + DIE_ONCE.format(marker=tmp_path / "died") + ALL
    replay_writers.run(job(tmp_path, dies), heard.append)
    assert (tmp_path / "died").exists()
    assert 10 == heard[-1]
    assert heard == sorted(heard)


def test_a_writer_that_refuses_ends_the_replay(tmp_path: Path) -> None:
    """Its own last words are the message."""
    refuses = 'import sys; sys.stderr.write("first\\nno such thing\\n"); sys.exit(2)'
    with pytest.raises(ConfigError, match="a writer gave up: no such thing"):
        replay_writers.run(job(tmp_path, refuses), lambda _: None)


def test_no_writer_is_left_behind(tmp_path: Path) -> None:
    """When one gives up, the others are stopped."""
    pid = tmp_path / "pid"
    waits = (
        "import os, pathlib, time\n"
        f"part = pathlib.Path('{pid}.part'); part.write_text(str(os.getpid()))\n"
        f"part.rename('{pid}'); time.sleep(60)"
    )
    refuses = (
        f"import os, sys, time\nwhile not os.path.exists('{pid}'): time.sleep(0.01)\nsys.exit(2)"
    )
    with pytest.raises(ConfigError):
        replay_writers.run(job(tmp_path, waits, refuses), lambda _: None)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
