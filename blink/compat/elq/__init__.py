"""The original ELQ: its script ``blink/main_dense_all_ents.py``, its calls from Python, and the flags of its training.

The modules, each importing only from those before it: ``flags`` (what can be given), ``plan`` (what it means), ``files``
(what is opened); ``rows`` (what is linked), ``predictions`` (what is predicted), ``results`` (what is written), ``batch``;
``run`` (the script); ``calls`` (of `elq.main_dense`); ``training`` (flags of the training script, for `blink train`).
"""
