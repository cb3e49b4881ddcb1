"""Links over HTTP: the server of ``blink serve``, over one linker."""
