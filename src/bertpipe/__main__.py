"""`python -m bertpipe` is the `bertpipe` command."""

from bertpipe.cli.app import main

if __name__ == "__main__":
    main()
