"""KG-LM: embeddings from a knowledge graph and its texts. The linker reads them from files.

A run has a kind (`blink.kglm.kinds`), settings (`blink.kglm.config`) and a folder (`blink.kglm.run`). Additional dependencies
come with the extra ``kglm``: ``pip install 'blink-linker[kglm]'``.
"""
