"""The `fleetmeter` command's entry: turns errors into one sentence and an exit status."""

import importlib
import sys
from typing import NoReturn

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130
# Everything the commands need besides the SDK's own dependencies; see `[local]` in pyproject.toml.
_EXTRA = 'the fleetmeter command needs more than the SDK: pip install "fleetmeter[local]"'


def main() -> NoReturn:
    """Run the command line; exits with 0, 1 (it is not so), 2 (it cannot be done) or 130."""
    try:
        commands = importlib.import_module("fleetmeter_local.commands")
        errors = importlib.import_module("fleetmeter_schemas.errors")
    except ModuleNotFoundError as error:
        _refuse_without(error)
    try:
        sys.exit(commands.run(sys.argv[1:]))
    except ModuleNotFoundError as error:
        _refuse_without(error)
    except (errors.ConfigError, errors.Unavailable) as error:
        _refuse(str(error))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _refuse_without(error: ModuleNotFoundError) -> NoReturn:
    if (error.name or "").startswith("fleetmeter"):
        raise error  # a broken installation of ours, not a missing extra
    _refuse(f"{_EXTRA} ({error.name} is missing)")


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"fleetmeter: {sentence}\n")
    sys.exit(EXIT_CONFIG)


if __name__ == "__main__":
    main()
