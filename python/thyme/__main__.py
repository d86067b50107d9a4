"""`python -m thyme` is the command `thyme`."""

from __future__ import annotations

from thyme.cli import main

if __name__ == "__main__":
    main()
