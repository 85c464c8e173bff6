"""The watcher that copies files from a web server: archives of alerts, matchfiles, catalogs.

What is there is left for `ingest`, or for whoever wants it. Which files there are is kept in the system database: one
that was moved or deleted after it was loaded is not fetched again, one whose sum has changed is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed

from kowalski.config.watchers import Files
from kowalski.watchers.base import Context, Outcome
from kowalski.watchers.checks import CHECKS
from kowalski.watchers.downloads import download, present
from kowalski.watchers.errors import Malformed, Refused, Unavailable
from kowalski.watchers.listings import Remote, incomplete, listing
from kowalski.watchers.web import Web, client_of


class FilesWatcher:
    """Brings files into a folder."""

    def __init__(self, context: Context[Files]) -> None:
        self._context = context
        self._own = context.own
        self._common = context.settings.watchers
        self.folder = context.settings.path.data / context.own.folder

    def once(self) -> Outcome:
        """Fetch all files that are listed and not here yet; one that can't be had holds up none of the others."""
        outcome = Outcome()
        with client_of(self._common, self._own, self._context.wait) as web:
            listed = listing(web, self._own)
            if self._own.set_size:
                outcome.rejected |= incomplete(listed, self._own.set_size)
            missing = self._missing(listed)
            self._context.tell(f"fetching {len(missing)} of {len(listed)} files")
            with ThreadPoolExecutor(self._own.parallel) as pool:
                running = {pool.submit(self._fetch, web, remote): remote for remote in missing}
                try:
                    for done in as_completed(running):
                        self._note(running[done], done.exception(), outcome)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        outcome.summary = f"{outcome.new} of {len(missing)} new files fetched to {self.folder} ({len(listed)} listed)"
        return outcome

    def _missing(self, listed: list[Remote]) -> list[Remote]:
        known = self._context.memory.files()

        def is_new(remote: Remote) -> bool:
            if remote.name not in known:
                return True
            return remote.md5 is not None and remote.md5 != known[remote.name]["md5"]

        return [remote for remote in listed if is_new(remote)]

    def _fetch(self, web: Web, remote: Remote) -> None:
        target = self.folder / remote.name
        check, free = CHECKS[self._own.check], self._common.keep_free_bytes
        # A pass that ended between a file and the note of it has left the file under its name.
        got = present(target, remote.md5, check) or download(
            web, remote.url, target, md5=remote.md5, check=check, keep_free=free
        )
        self._context.memory.add_file(remote.name, got.size, got.md5, str(target))

    def _note(self, remote: Remote, error: BaseException | None, outcome: Outcome) -> None:
        """Count a file, or say why it is not here; whatever is not that file's own fault ends the pass."""
        if error is None:
            outcome.new += 1
        elif isinstance(error, Refused | Malformed) or (isinstance(error, Unavailable) and error.pause is None):
            outcome.rejected[remote.name] = str(error)
        else:
            raise error
