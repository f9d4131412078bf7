"""What the README and the documents promise in code: blocks, commands, paths, variables."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = (README, *sorted((ROOT / "docs").glob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_VARIABLE = re.compile(r"\bFLEETMETER_[A-Z0-9_]*[A-Z0-9]\b")
_PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|py|toml|txt|sql|avsc|json)")
_WORD = re.compile(r"[\w./=-]+")
_SHOWN = re.compile(r"^print\(.*\)\n# (.+)$", re.MULTILINE)
_NOT_OURS = {".git", ".venv", "__pycache__"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of Python, and the output that the comments below its `print`s show."""

    name: str
    source: str
    shown: list[str]


def python_blocks(document: Path) -> list[Block]:
    """The Python blocks of a document, in order."""
    sources = [source for kind, source in _FENCE.findall(document.read_text()) if kind == "python"]
    return [
        Block(name=f"{document.name} {place}", source=source, shown=_SHOWN.findall(source))
        for place, source in enumerate(sources, 1)
    ]


def code(document: Path) -> Iterator[str]:
    """Everything that is written as code: lines of blocks, and what stands between backticks."""
    text = document.read_text()
    for _, block in _FENCE.findall(text):
        yield from block.splitlines()
    plain = _FENCE.sub("", text)
    yield from _INDENTED.findall(plain)
    yield from _SPAN.findall(plain)


def calls(program: str) -> set[tuple[str, ...]]:
    """What the documents call a program with: its words, one call each, comments cut off."""
    found = set()
    for document in DOCUMENTS:
        for line in code(document):
            for rest in re.findall(rf"(?:^|(?<!from)[\s(/]){program} ([^#)|]+)", line):
                found.add(tuple(_WORD.findall(rest)))
    return {words for words in found if words}


def paths(document: Path) -> set[str]:
    """The paths in the repository that a document names: its links, and what looks like one."""
    links = {link.split("#")[0] for link in _LINK.findall(document.read_text())}
    named = {token for line in code(document) for token in line.split() if _PATH.fullmatch(token)}
    return {path for path in links | named if path and "://" not in path}


def variables() -> set[str]:
    """The environment variables of ours that the documents name."""
    return {name for document in DOCUMENTS for name in _VARIABLE.findall(document.read_text())}


def exists(path: str, document: Path) -> bool:
    """Whether a path leads somewhere: from the document, from the top, or within any folder."""
    if (document.parent / path).exists() or (ROOT / path).exists():
        return True
    wanted = Path(path).parts
    return any(each.parts[-len(wanted) :] == wanted for each in _ours())


def _ours() -> Iterator[Path]:
    for top in ROOT.iterdir():
        if top.name not in _NOT_OURS:
            yield top.relative_to(ROOT)
            yield from (each.relative_to(ROOT) for each in top.rglob("*"))
