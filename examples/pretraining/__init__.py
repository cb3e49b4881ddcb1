"""LUKE's pre-training: a MediaWiki dump, its entity vocabulary, a packed dataset, masked words and masked entities."""
