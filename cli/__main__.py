"""The start of the command line, before anything that takes time to load."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # A Ctrl-C while the modules load would show a traceback of whichever was next; so it just ends the process.
    patient = signal.getsignal(signal.SIGINT)
    if patient is signal.default_int_handler:  # not where a shell has us ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    import logging

    from cli.tree import run

    logging.basicConfig(level=os.environ.get("PIXMILL_CLI_LOG", "ERROR"), format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, patient)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
