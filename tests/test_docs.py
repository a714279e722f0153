"""The documents: no link leads nowhere, and every contract shown as accepted is accepted."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsmrt.contract.bootstrap import read_bootstrap
from fsmrt.contract.pipeline import read_pipeline
from fsmrt.contract.reading import Reading

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)\n(.*?)^ {0,3}\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.*?)(?: +\{#([\w-]+)\})?[ \t]*$", re.MULTILINE)
READERS: dict[str, Callable[[bytes], Reading[Any]]] = {
    "yaml pipeline": read_pipeline,
    "yaml bootstrap": read_bootstrap,
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its code: a link in an example is not a link."""
    return re.sub(r"`[^`\n]*`", lambda code: code.group().replace("[", "("), FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    return {given or slug(title) for title, given in HEADING.findall(FENCE.sub("", page.read_text()))}


def slug(title: str) -> str:
    """The anchor the site makes of a heading."""
    text = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", title)).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Every link to a file of this repository, with its anchor."""
    for target in LINK.findall(prose(page)):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(target), f"{target.name} has no anchor #{anchor}"


@each_page
def test_every_contract_shown_is_accepted(page: Path) -> None:
    for _, language, text in FENCE.findall(page.read_text()):
        if read := READERS.get(language.strip()):
            assert read(text.encode()).problems == (), text


@each_page
def test_no_page_needs_another_machine_to_be_read(page: Path) -> None:
    assert re.findall(r"!\[[^\]]*\]\(https?:|<script|<img", prose(page)) == []


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_anchors_are_made_as_the_site_makes_them() -> None:
    assert slug("4.4 Built-in rules: `rm`, *and more*") == "44-built-in-rules-rm-and-more"
