"""Command line as a module: ``python -m geovision``."""

from geovision.cli import main

if __name__ == "__main__":
    main()
