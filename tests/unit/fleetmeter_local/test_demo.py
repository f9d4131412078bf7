import tempfile
from pathlib import Path

import pytest

from fleetmeter_local import demo
from fleetmeter_schemas.errors import Unavailable


def fail(error: BaseException) -> None:
    """Raise an error inside the demo's own folder."""
    with demo._folder(None):
        raise error


@pytest.mark.parametrize(
    ("error", "stays"), [(Unavailable("see the log in it"), True), (KeyboardInterrupt(), False)]
)
def test_the_folder_of_an_error_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, *, stays: bool
) -> None:
    """An error names a log in the temporary folder; after anything else the folder is gone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(type(error)):
        fail(error)
    assert stays == any(tmp_path.iterdir())
