"""`bertpipe`, and `python -m bertpipe`: a signal waits until the command line can follow it."""

import signal

from bertpipe.core.errors import INTERRUPTIONS


def main() -> None:
    """Run the command line; a signal that comes while its libraries are read is held back until it can say so."""
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
    from bertpipe.cli import app

    app.main()


if __name__ == "__main__":
    main()
