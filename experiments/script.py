"""How every script starts, and how it ends after Ctrl-C."""

from collections.abc import Callable
from typing import Any

import tyro
from devices import use_every_core
from outputs import INTERRUPTED
from programs import keep_programs


def run(main: Callable[[Any], Any], config: Any) -> None:
    """`main` with the configuration of the command line."""
    settings = tyro.cli(config)
    use_every_core()
    keep_programs()
    try:
        main(settings)
    except KeyboardInterrupt:
        print("\nInterrupted: no result has been written.")
        raise SystemExit(INTERRUPTED) from None
