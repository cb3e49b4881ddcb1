"""Entity linking in one BERT pass."""

__version__ = "0.1.0"
