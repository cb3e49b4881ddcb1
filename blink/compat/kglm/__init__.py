"""The original's KG-LM commands: ``flags``, ``files`` (inputs), ``commands``, ``gen_embeddings``."""
