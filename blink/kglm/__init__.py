"""KG-LM: embeddings from a knowledge graph and its texts; it reaches the linker through files alone.

A run has a kind (`blink.kglm.kinds`), settings (`blink.kglm.config`) and a folder (`blink.kglm.run`). What this needs beside
BLINK itself comes with the extra ``kglm``: ``pip install 'blink-linker[kglm]'``.
"""
