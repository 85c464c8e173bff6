"""The process of gunicorn that serves the API.

The process that watches over it imports this module, too, so whatever else is needed is imported when it serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import GunicornUVLoopWebWorker

if TYPE_CHECKING:
    from kowalski.api.protocol import Runner


class Worker(GunicornUVLoopWebWorker):
    """Serves the application so that what is no HTTP is answered as the API answers, too."""

    wsgi: Any

    def load_wsgi(self) -> None:
        """Load the application, and have it run by `kowalski.api.protocol.Runner`."""
        super().load_wsgi()
        app = self.wsgi

        async def runner() -> Runner:
            from kowalski.api.protocol import Runner

            return Runner(
                app,
                logger=self.log,
                keepalive_timeout=self.cfg.keepalive,
                access_log=None,  # requests are logged by our middleware
                shutdown_timeout=0.95 * self.cfg.graceful_timeout,  # just before gunicorn loses patience
            )

        self.wsgi = runner
