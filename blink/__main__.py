"""The program ``blink``, also ``python -m blink``."""

from __future__ import annotations

from blink.stopping import program


def main() -> None:
    """Entry point of the ``blink`` command; ends the process."""
    program("blink", "blink.apps.cli:main")()


if __name__ == "__main__":
    main()
