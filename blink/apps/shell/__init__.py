"""``blink shell``: type texts, see their links and the reasons; through a pipe, JSON lines.

A `Session` holds the last analysis and the settings; its commands are a table. `blink.explaining` turns links into styled
fragments, and a `Console` brings them to a terminal, or to the plain output of a pipe.

The modules, each importing only from those before it: ``bases``, ``commands``, ``complete``, ``console``, ``session``,
``terminal``, ``stream``, ``run``, ``command``.
"""
