"""Entity resolution: records and mentions to existing or new entities of a knowledge base, and merges of its entities."""
