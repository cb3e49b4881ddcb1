"""The knowledge base: catalogue on disk, entity vectors, index, and the manifest that binds them to a model."""
