"""Entity typing (Open Entity): the types of a mention."""
