"""Prints one setting, e.g. ``python -m kowalski.config ml.use_tensorflow``, for programs that can't import this."""

from __future__ import annotations

import json
import sys

from kowalski.config import ConfigError, load


def main() -> None:
    """Print the setting named on the command line as JSON; exit with 2 if the settings can't be used."""
    try:
        value = load().settings.model_dump(mode="json")
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    for part in sys.argv[1].split("."):
        value = value[part]
    print(json.dumps(value))


if __name__ == "__main__":
    main()
