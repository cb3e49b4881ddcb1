"""``blink shell``: type texts, see their links and the reasons; through a pipe, JSON lines.

A `Session` holds what was read and the settings; its commands are a table. What it shows is made by pure functions
from links to styled fragments, and a `Console` brings them to a terminal, or to the plain output of a pipe.

The modules, each importing only from those before it: ``scales`` (what scores are), ``render`` and ``cards`` (what is shown),
``reasons`` (evidence in words), ``explain``, ``commands``, ``complete``, ``console``, ``session``, ``terminal``, ``stream``,
``run``, ``command``.
"""
