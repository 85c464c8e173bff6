"""Where ``./kowalski.py COMMAND`` arrives: finds the command, and turns what may go wrong into a sentence."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from kowalski.cli import (
    backup,
    catalogs,
    crossmatch,
    deadletters,
    dependencies,
    develop,
    down,
    filters,
    ingest,
    logs,
    migrate,
    models,
    outbox,
    report,
    reprocess,
    restart,
    run,
    schemas,
    secrets,
    seed,
    simulate,
    status,
    stream,
    test,
    top,
    up,
    users,
    watch,
)
from kowalski.cli.console import complain
from kowalski.config import ConfigError

HELP = """Kowalski: an alert broker and data archive for time-domain astronomy.

First steps: `./kowalski.py up` installs and starts everything; `./kowalski.py stream --topic ztf_20231012_programid1
--path DIR` sends it the alerts of a folder; `./kowalski.py status` tells how far it is; `./kowalski.py down` stops it.

Every command also takes `--config FILE` (as does the variable KOWALSKI_CONFIG): settings on top of
config.defaults.yaml, instead of config.yaml.
"""
COMMANDS = (
    up, down, status, top, logs, restart, run, stream, simulate, reprocess, deadletters, outbox, filters, catalogs,
    ingest, crossmatch, models, schemas, users, watch, report, backup, seed, migrate, secrets, dependencies,
    test, develop,
)  # fmt: skip

FAILED, WRONG_SETTINGS, INTERRUPTED = 1, 2, 130


def build() -> typer.Typer:
    """Put the commands together; each is a module of this package with a function ``register``."""
    app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    for module in COMMANDS:
        module.register(app)
    return app


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns
    -------
    int
        Exit status: 0, or 1 for a failure, 2 for wrong settings or options, 130 after Ctrl-C.
    """
    try:
        build()(args=_take_config(arguments), prog_name="./kowalski.py")
    except ConfigError as error:
        complain(str(error))
        return WRONG_SETTINGS
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as finished:  # what every command ends with
        return finished.code if isinstance(finished.code, int) else int(finished.code is not None)
    except OSError as error:
        complain(_of_the_system(error))
        return FAILED
    except _foreseen() as error:
        complain(" ".join(str(error).split()))
        return FAILED
    except Exception as error:  # noqa: BLE001 - a fault of ours: the operator gets a sentence, the trace goes to a file
        complain(_unforeseen(error))
        return FAILED
    return 0


def _unforeseen(error: Exception) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="kowalski-fault-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return f"this is a fault of Kowalski ({type(error).__name__}: {error}); please report it with the file {file.name}"


def _foreseen() -> tuple[type[Exception], ...]:
    """Errors whose text is written for the operator, or that say enough; looked up only when something went wrong."""
    from confluent_kafka import KafkaException
    from pymongo.errors import PyMongoError

    from kowalski.broker.schemas import RegistryError, SchemaError
    from kowalski.broker.stream import StreamError
    from kowalski.dumps import places
    from kowalski.dumps.errors import DumpError
    from kowalski.ingesters.errors import IngestError
    from kowalski.migrations.registry import MigrationError
    from kowalski.ml.specs import ModelError
    from kowalski.runtime.errors import ServiceError
    from kowalski.watchers.errors import WatcherError

    return (
        ServiceError,
        StreamError,
        RegistryError,
        SchemaError,
        ModelError,
        IngestError,
        DumpError,
        MigrationError,
        WatcherError,
        PyMongoError,
        *places.errors(),
        KafkaException,
    )


def _of_the_system(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename is not None else what


def _take_config(arguments: Sequence[str]) -> list[str]:
    """Take ``--config FILE`` out, wherever it stands, and hand it on as a variable that child processes see, too."""
    left: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return [*left, argument, *rest]
        if argument == "--config":
            named = next(rest, "")
        elif argument.startswith("--config="):
            named = argument.removeprefix("--config=")
        else:
            left.append(argument)
            continue
        if not named:
            raise ConfigError("--config needs the name of a file")
        os.environ["KOWALSKI_CONFIG"] = str(Path(named).resolve())
    return left
