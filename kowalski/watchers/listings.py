"""What there is on a web server that lists its files on pages with links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from kowalski.config.watchers import Files
from kowalski.watchers.errors import Malformed
from kowalski.watchers.web import Web

DEPTH = 4
"""Folders within folders that are looked into."""
SUM = re.compile(r"([0-9a-fA-F]{32}) [ *](?:\./)?(.+)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file of the server.

    Attributes
    ----------
    name
        With the folders below where the watcher looks.
    url
        Where it is.
    groups
        What the pattern's groups found in its name.
    md5
        The sum that it must have, if the server tells.
    """

    name: str
    url: str
    groups: dict[str, str]
    md5: str | None = None


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def listing(web: Web, own: Files) -> list[Remote]:
    """List all files that are wanted, by name.

    Raises
    ------
    Malformed
        If pages have no such links at all, or the sums can't be read: then the settings are wrong, or the pages.
    """
    root = f"{str(own.url).rstrip('/')}/"
    found = {remote.name: remote for remote in _crawl(web, own, root, root, DEPTH)}
    if not found:
        raise Malformed(f"{root} lists no file that fits {own.pattern}")
    return [found[name] for name in sorted(found) if _is_wanted(found[name], own)]


def _crawl(web: Web, own: Files, root: str, page: str, depth: int) -> Iterator[Remote]:
    sums: dict[str, str] | None = None
    for url in _links(web.get(page).text, page):
        name = unquote(url.removeprefix(page))
        if own.folders and depth and re.fullmatch(own.folders, name.removesuffix("/")) and name.count("/") <= 1:
            yield from _crawl(web, own, root, f"{url.rstrip('/')}/", depth - 1)
        elif match := re.fullmatch(own.pattern, name):
            if sums is None:
                sums = _sums(web, urljoin(page, own.checksums)) if own.checksums else {}
            groups = {key: value or "" for key, value in match.groupdict().items()}
            yield Remote(unquote(url.removeprefix(root)), url, groups, sums.get(name))


def _links(text: str, page: str) -> list[str]:
    """Find the links of a page that lead below it; none twice."""
    parser = _Links()
    parser.feed(text)
    parts = [urlsplit(urljoin(page, link)) for link in parser.found]
    urls = [part._replace(query="", fragment="").geturl() for part in parts]
    below = [url for url in urls if url.startswith(page) and url != page]
    # A name leads out of the folder that files are copied into, or nowhere: not even where its dots are escaped.
    return [url for url in dict.fromkeys(below) if ".." not in unquote(url.removeprefix(page)).split("/")]


def _sums(web: Web, url: str) -> dict[str, str]:
    """Read a list of MD5 sums as ``md5sum`` writes it: name -> sum."""
    found = {}
    for number, line in enumerate(web.get(url).text.splitlines(), 1):
        if not line.strip():
            continue
        match = SUM.fullmatch(line.strip())
        if match is None:
            raise Malformed(f"{url}, line {number} is no MD5 sum and name: {line[:80]!r}")
        found[match[2].rpartition("/")[2]] = match[1].lower()
    return found


def _is_wanted(remote: Remote, own: Files) -> bool:
    night = remote.groups.get("date")
    if night is None:
        return True
    return (own.first_night or "0") <= night <= (own.last_night or "99999999")


def incomplete(files: list[Remote], size: int) -> dict[str, str]:
    """Tell where there are not ``size`` files for the same values of the pattern's groups."""
    sets: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for remote in files:
        sets.setdefault(tuple(remote.groups.items()), []).append(remote.name)
    return {
        " ".join(f"{key} {value}" for key, value in groups): f"{len(found)} files instead of {size}"
        for groups, found in sorted(sets.items())
        if len(found) != size
    }
