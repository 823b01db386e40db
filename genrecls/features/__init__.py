"""Features: from samples to segments, log-mels and images, stored once per file."""
