"""Named entity recognition (CoNLL-2003): every span of a sentence is a name of some kind, or is none."""
