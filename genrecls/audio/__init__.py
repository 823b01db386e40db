"""Sound files: decoding, tags, quality, fingerprints and duplicates."""
