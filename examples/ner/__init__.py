"""Named entity recognition (CoNLL-2003): each span of a sentence is classified as a type of name, or as none."""
