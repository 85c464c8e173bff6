#!/usr/bin/env python3
"""Kowalski's command: makes the project's Python environment on first use, then hands over to ``kowalski.cli``.

It needs nothing but Python. The packages go into ``.venv`` beside this file, as ``requirements/*.txt`` lock them;
what is installed already is not installed again. Written so that an old Python can read it and say what is missing.
"""

import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys

PROJECT = os.path.dirname(os.path.realpath(__file__))
VENV = os.path.realpath(os.path.join(PROJECT, ".venv"))  # it may be a link to a larger disk
PYTHON = os.path.join(VENV, "bin", "python")
LOG = os.path.join(VENV, "install.log")

VERSIONS = ((3, 13), (3, 12), (3, 11))
"""Versions of Python for which all packages exist, best first."""

HELP = """\
Kowalski: an alert broker and data archive for time-domain astronomy.

  ./kowalski.py up        install everything into .venv (needs the network, once), start all services
  ./kowalski.py status    what runs, how far it is, what is wrong
  ./kowalski.py stream --topic ztf_20231012_programid1 --path DIR
                          send it the alerts of a folder
  ./kowalski.py down      stop all services
  ./kowalski.py test      install what tests need, run them all

  ./kowalski.py --help    tells all commands once the packages are installed
  --config FILE           with any command: settings on top of config.defaults.yaml, instead of config.yaml

It needs Python 3.11, 3.12 or 3.13 with the module venv, and nothing else.
"""

NEED_NO_PACKAGES = ("down", "status", "logs", "restart")
NEED_TESTS = ("test", "lint", "develop", "audit", "lock")
NEED_MODELS = ("up", "build", "test", "run", "models")


FULL, FORBIDDEN = "the disk is full", "the folder can't be written"


class InstallError(Exception):
    """Something keeps the packages from being installed; the text is one sentence for the operator."""


def main(arguments):  # type: (list[str]) -> int
    """Install what the command needs, then run it."""
    command = command_of(arguments)
    asks_for_help = command is None or "--help" in arguments
    if not os.path.exists(PYTHON) or not os.path.exists(stamp_file("core")):
        if asks_for_help:
            print(HELP, end="")
            return 0
        if command in NEED_NO_PACKAGES:
            print("Nothing is installed yet, so nothing runs; ./kowalski.py up does both.")
            return 0 if command == "down" else 1
    try:
        if not asks_for_help:
            install(command, arguments)
    except InstallError as error:
        print("Error: {}".format(error), file=sys.stderr)
        return 1
    except OSError as error:
        print("Error: {}: {}".format(error.filename or VENV, error.strerror), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    sys.stdout.flush()
    return os.execv(PYTHON, [PYTHON, "-m", "kowalski.cli"] + arguments)


def command_of(arguments):  # type: (list[str]) -> str | None
    """Find the command among the arguments: the first one that is no option and no option's value."""
    skip = False
    for argument in arguments:
        if not skip and not argument.startswith("-"):
            return argument
        skip = argument == "--config"
    return None


# Finding Python


def suitable_python():  # type: () -> str
    """Find a Python that can make the environment: this one, or another one on PATH."""
    if sys.version_info[:2] in VERSIONS and has_venv(sys.executable):
        return sys.executable
    for version in VERSIONS:
        found = shutil.which("python{}.{}".format(*version))
        if found and has_venv(found):
            return found
    this = "this is Python {}.{}".format(*sys.version_info[:2])
    if sys.version_info[:2] in VERSIONS:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        raise InstallError(
            "{} without the module venv; install it (on Debian and Ubuntu: apt install {})".format(this, package)
        )
    raise InstallError(
        "Kowalski needs Python 3.11, 3.12 or 3.13 with the module venv; {}, "
        "and there is no python3.13, python3.12 or python3.11 with it on PATH: install one".format(this)
    )


def has_venv(python):  # type: (str) -> bool
    """Whether ``python`` runs at all and brings the modules that make an environment."""
    done = subprocess.run(
        [python, "-c", "import venv, ensurepip"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


# Installing


def install(command, arguments):  # type: (str | None, list[str]) -> None
    """Make the environment and install the groups of packages that ``command`` needs, one process at a time."""
    afresh = command == "build" or (command == "up" and "--build" in arguments)
    descriptor = os.open(os.path.join(PROJECT, "requirements"), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        put("core", afresh)
        if "--docker" in arguments:
            return  # images have packages of their own
        if command in NEED_MODELS and (afresh or not is_installed("models")) and wants_tensorflow(arguments):
            put("models", afresh)
        if command in NEED_TESTS:
            put("test", afresh)
    finally:
        os.close(descriptor)


def make_environment():  # type: () -> None
    """Make ``.venv``, or make it again where it is broken or an earlier attempt was interrupted."""
    if os.path.exists(PYTHON) and is_sound():
        return
    python = suitable_python()
    say("making {} with {}".format(VENV, python))
    done = subprocess.run(
        [python, "-m", "venv", "--clear", VENV],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )
    if done.returncode != 0:
        reason = explain(done.stdout) or " ".join(done.stdout.split())[-300:]
        raise InstallError("the environment {} can't be made: {}".format(VENV, reason))


def is_sound():  # type: () -> bool
    """Whether the environment has a Python of a right version and pip."""
    check = "import sys, pip; sys.exit(sys.version_info[:2] not in {})".format(VERSIONS)
    done = subprocess.run([PYTHON, "-c", check], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def lock_file(group):  # type: (str) -> str
    """Path of the file that lists the packages of ``group``."""
    return os.path.join(PROJECT, "requirements", group + ".txt")


def stamp_file(group):  # type: (str) -> str
    """Path of the file that remembers which list of ``group`` is installed."""
    return os.path.join(VENV, "installed-{}.sha256".format(group))


def digest(group):  # type: (str) -> str
    """What identifies the list of packages of ``group``."""
    with open(lock_file(group), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def is_installed(group):  # type: (str) -> bool
    """Whether ``group`` is installed as its list is now, for a Python that is still there."""
    if not os.path.exists(PYTHON):
        return False
    try:
        with open(stamp_file(group)) as file:
            return file.read() == digest(group)
    except OSError:
        return False


def put(group, afresh):  # type: (str, bool) -> None
    """Install the packages of ``group`` where that isn't done yet."""
    if is_installed(group) and not afresh:
        return
    if os.path.exists(stamp_file(group)):
        os.remove(stamp_file(group))
    make_environment()
    forget_halves()
    show_project()
    with open(lock_file(group)) as file:
        total = sum(1 for line in file if re.match(r"[A-Za-z0-9]", line))
    say("installing {} packages ({} of them at most; see {})".format(group, total, LOG))
    command = [PYTHON, "-m", "pip", "install", "--require-hashes", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "-r", lock_file(group)] + (["--force-reinstall"] if afresh else [])
    status, tail = run_pip(command, total)
    if status != 0:
        raise InstallError(failure(group, tail))
    with open(stamp_file(group), "w") as file:
        file.write(digest(group))


def run_pip(command, total):  # type: (list[str], int) -> tuple[int, str]
    """Run pip, show how far it is, and give its exit status and the end of what it said."""
    with open(LOG, "a") as log:
        log.write("$ {}\n".format(" ".join(command)))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    lines = []  # type: list[str]
    count = 0
    for line in process.stdout or ():
        with open(LOG, "a") as log:
            log.write(line)
        lines = lines[-200:] + [line]
        found = re.match(r"(?:Collecting|Requirement already satisfied:) ([^\s=<>!;\[]+)", line)
        size = re.match(r"\s+(?:Downloading|Using cached) \S+ \(([^)]+)\)", line)
        if found:
            count += 1
            tell("[{:3}/{}] {}".format(count, total, found.group(1)))
        elif size and size.group(1).endswith(("MB", "GB")):
            tell("[{:3}/{}] {}".format(count, total, " ".join(line.split())[:90]))
        elif line.startswith("Installing collected packages"):
            tell("unpacking; this takes a minute")
    status = process.wait()
    tell("")
    return status, "".join(lines)


def site_packages():  # type: () -> list[str]
    """Folder in which the environment's packages are; a list, as it is found by a pattern."""
    return glob.glob(os.path.join(VENV, "lib", "python3.*", "site-packages"))


def forget_halves():  # type: () -> None
    """Remove what marks a package as installed whose installation was interrupted: its list of files comes last."""
    for folder in site_packages():
        for mark in glob.glob(os.path.join(folder, "*.dist-info")):
            if not os.path.exists(os.path.join(mark, "RECORD")):
                shutil.rmtree(mark)


def show_project():  # type: () -> None
    """Make ``import kowalski`` work in every folder; the project's own folder may have been moved."""
    for folder in site_packages():
        with open(os.path.join(folder, "kowalski.pth"), "w") as file:
            file.write(PROJECT + "\n")


def wants_tensorflow(arguments):  # type: (list[str]) -> bool
    """Ask the settings, which the packages just installed can read, whether TensorFlow is wanted."""
    environment = dict(os.environ)
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            environment["KOWALSKI_CONFIG"] = os.path.abspath(arguments[position + 1])
        elif argument.startswith("--config="):
            environment["KOWALSKI_CONFIG"] = os.path.abspath(argument[len("--config=") :])
    done = subprocess.run(
        [PYTHON, "-m", "kowalski.config", "ml.use_tensorflow"],
        env=environment,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(done.returncode)  # it has said what is wrong
    return done.stdout.strip() == "true"


# Saying what goes on


def failure(group, said):  # type: (str, str) -> str
    """Say in one sentence what kept pip from installing ``group``, from where to where, and what else would do."""
    host = re.search(r"host='([^']+)'", said) or re.search(r"Looking in indexes: \w+://(?:[^@/\s]+@)?([^/\s:,]+)", said)
    source = host.group(1) if host else "the package index that pip is configured for"
    reason = explain(said)
    if reason is None:
        lines = [line for line in said.splitlines() if line.startswith("ERROR:")]
        reason = lines[-1][len("ERROR:") :].strip() if lines else "pip gave up"
    instead = "PIP_INDEX_URL can name another index"
    if reason in (FULL, FORBIDDEN):
        instead = ".venv may also be a link to a folder elsewhere, with 3 GB of space"
    return "the {} packages can't be installed from {} to {}: {}; {} (all that pip said: {})".format(
        group, source, VENV, reason, instead, LOG
    )


def explain(said):  # type: (str) -> str | None
    """Find the cause in what a program said; None if it is none of the usual ones."""
    causes = (
        (r"No space left on device|Disk quota exceeded", FULL),
        (r"Permission denied|Read-only file system", FORBIDDEN),
        (r"DO NOT MATCH THE HASHES", "a file that came is not the one that requirements/ names"),
        (
            r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Max retries exceeded|ProxyError"
            r"|Connection (?:refused|reset|broken)|Network is unreachable|Name or service not known",
            "there is no connection",
        ),
        (r"\(from versions: none\)", "it can't be reached, or has no such package"),
        (r"ensurepip is not available", "the module venv is not whole; on Debian and Ubuntu: apt install python3-venv"),
    )
    for pattern, cause in causes:
        if re.search(pattern, said):
            return cause
    return None


def say(text):  # type: (str) -> None
    """Print a line of progress."""
    print(text, file=sys.stderr)
    sys.stderr.flush()


def tell(text):  # type: (str) -> None
    """Print progress that the next such text replaces; where nobody watches, only now and then."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()
    elif text.startswith("unpacking") or re.match(r"\[ *\d*0/", text):
        say("  " + text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
