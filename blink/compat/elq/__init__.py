"""``python blink/main_dense_all_ents.py``: the original's command line over the original's files, or over the starter.

The modules, each importing only from those before it: ``flags`` (what can be given), ``plan`` (what it means), ``files``
(what is opened); ``rows`` (what is linked), ``outcome`` (what became of it), ``results`` (what is written), ``batch``; ``run``;
``training`` (the flags of the training script, which `blink train` takes too).
"""
