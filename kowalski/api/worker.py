"""The process of gunicorn that serves the API.

The process that watches over it imports this module, too, so whatever else is needed is imported when it serves; but
for what `kowalski.api.hooks` loads for all.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import GunicornUVLoopWebWorker

from kowalski import garbage

if TYPE_CHECKING:
    from kowalski.api.protocol import Runner


class Worker(GunicornUVLoopWebWorker):
    """Serves the application so that what is no HTTP is answered as the API answers, too.

    It can be ended while it still loads the application. uvloop forgets signals that come before it runs, and gunicorn
    would wait in vain until its patience is at an end; so handlers are set when it runs, and simpler ones before that.
    """

    wsgi: Any

    def init_process(self) -> None:
        """Become a process of its own; it has the handlers of the one that watches over it, which only take notes."""
        self.init_signals()
        super().init_process()

    def init_signals(self) -> None:
        """Let signals end the process, as nobody is served yet."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: sys.exit(0))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def load_wsgi(self) -> None:
        """Load the application, and have it run by `kowalski.api.protocol.Runner`."""
        super().load_wsgi()
        garbage.settle()  # else everybody waits for it to look through all packages, a tenth of a second at a time
        app, serve_until_told = self.wsgi, super().init_signals

        async def runner() -> Runner:
            from kowalski.api.protocol import Runner

            serve_until_told()
            return Runner(
                app,
                logger=self.log,
                keepalive_timeout=self.cfg.keepalive,
                access_log=None,  # requests are logged by our middleware
                shutdown_timeout=0.95 * self.cfg.graceful_timeout,  # just before gunicorn loses patience
            )

        self.wsgi = runner
