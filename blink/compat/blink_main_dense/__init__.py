"""The original BLINK's calls from Python, ``blink.main_dense``: mentions that the caller names are linked in two passes.

The modules, each importing only from those before it: ``flags`` (what can be given), ``inputs`` (mentions in their context),
``crossencoder`` (the second pass), ``samples`` (files of labelled mentions), ``calls`` (`load_models` and `run`).
"""
