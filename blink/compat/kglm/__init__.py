"""The original's KG-LM commands: ``flags`` (what they take), ``files`` (what they read), ``commands``, ``gen_embeddings``."""
