"""The broker's jars: fetched by Maven coordinates, held against pinned sha256; starts nothing."""

import hashlib
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import jgo.maven
import jgo.parse
import requests
from platformdirs import user_cache_path

from fleetmeter_schemas.errors import ConfigError

DOWNLOADS_MAX = 8
LOGGING_BINDING = ("org.apache.logging.log4j", "log4j-slf4j-impl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One pinned file of the classpath."""

    sha256: str
    group: str
    name: str
    version: str

    @property
    def coordinates(self) -> str:
        """Return `group:name:version`."""
        return f"{self.group}:{self.name}:{self.version}"

    def path_under(self, root: Path) -> Path:
        """Return where a Maven repository at `root` keeps this jar."""
        folder = root.joinpath(*self.group.split("."), self.name, self.version)
        return folder / f"{self.name}-{self.version}.jar"


def pinned() -> list[Jar]:
    """Return the jars of the shipped list, in its order."""
    return parse(files("fleetmeter_local").joinpath("kafka_jars.txt").read_text())


def parse(text: str) -> list[Jar]:
    """Return the jars of lines `sha256  group:name:version`; `#` starts a comment line."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [_jar(line) for line in lines]


def _jar(line: str) -> Jar:
    sha256, coordinates = line.split()
    group, name, version = coordinates.split(":")
    return Jar(sha256=sha256, group=group, name=name, version=version)


def cache_dir() -> Path:
    """Return the folder that keeps verified jars from one run to the next."""
    return user_cache_path("fleetmeter") / "jars"


def prepare(jars: list[Jar], cache: Path) -> list[Path]:
    """Return the verified paths of `jars`, fetching those that `cache` lacks.

    Raises:
        ConfigError: a jar cannot be fetched, or its content is not the pinned one.
    """
    fetch([jar for jar in jars if not jar.path_under(cache).exists()], cache)
    return [_verified(jar, jar.path_under(cache)) for jar in jars]


def fetch(jars: list[Jar], cache: Path) -> None:
    """Download `jars` and move each into `cache` once it is proved to be the pinned one.

    Raises:
        ConfigError: a jar cannot be fetched, or its content is not the pinned one.
    """
    if not jars:
        return
    cache.mkdir(parents=True, exist_ok=True)
    # Not straight into the cache: an interrupted download must not stay there under the jar's name.
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as folder:
        context = jgo.maven.MavenContext(repo_cache=Path(folder))
        with ThreadPoolExecutor(DOWNLOADS_MAX) as pool:
            for jar, path in zip(
                jars, pool.map(lambda j: _download(j, context), jars), strict=True
            ):
                kept = jar.path_under(cache)
                kept.parent.mkdir(parents=True, exist_ok=True)
                _verified(jar, path).replace(kept)


def _download(jar: Jar, context: jgo.maven.MavenContext) -> Path:
    artifact = context.project(jar.group, jar.name).at_version(jar.version).artifact()
    try:
        return Path(artifact.resolve())
    except (requests.RequestException, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"cannot fetch {jar.coordinates}: {reason}") from error


def _verified(jar: Jar, path: Path) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != jar.sha256:
        raise ConfigError(
            f"{jar.coordinates} is not the pinned jar: sha256 {found}, expected {jar.sha256}"
            f" (delete {path} to fetch it again)"
        )
    return path


def lock(coordinates: str, repository: Path) -> Iterator[str]:
    """Yield the lines that pin `coordinates`, what they depend on, and a logging binding."""
    context = jgo.maven.MavenContext(repo_cache=repository)
    (coordinate,) = jgo.parse.Endpoint.parse(coordinates).coordinates
    wanted = context.create_dependency(replace(coordinate, scope="compile"))
    # Alone: a second input's managed versions would override the first one's (log4j's parent
    # takes kafka-clients back to 3.9).
    inputs, transitive = context.resolver.resolve([wanted])
    chosen = [*inputs, *(d for d in transitive if d.scope in {"compile", "runtime"})]
    log4j = next(d.version for d in chosen if d.artifactId == "log4j-core")
    artifacts = [d.artifact for d in chosen]
    artifacts.append(context.project(*LOGGING_BINDING).at_version(log4j).artifact())
    for artifact in sorted(artifacts, key=lambda a: (a.groupId, a.artifactId)):
        sha256 = hashlib.sha256(Path(artifact.resolve()).read_bytes()).hexdigest()
        yield f"{sha256}  {artifact.groupId}:{artifact.artifactId}:{artifact.version}"


def main() -> None:
    """Print a new list for the Maven coordinates given as the only argument."""
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.writelines(f"{line}\n" for line in lock(sys.argv[1], Path(folder)))


if __name__ == "__main__":
    main()
