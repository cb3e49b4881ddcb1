"""A fuzzer: damages files that BLINK reads, by seed, and reads them: no traceback, no hang, no silent difference."""
