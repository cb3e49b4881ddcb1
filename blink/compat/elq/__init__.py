"""The original ELQ: its script ``blink/main_dense_all_ents.py``, its calls from Python, and the flags of its training.

The modules, each importing only from those before it: ``flags`` (the command line), ``plan`` (its meaning), ``files``
(of models and entities); ``rows`` (inputs), ``predictions`` (records), ``results`` (output files), ``batch``;
``run`` (the script); ``calls`` (of `elq.main_dense`); ``training`` (flags of the training script, for `blink train`).
"""
