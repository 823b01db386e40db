"""Numbers and tables from saved predictions, without models or audio."""
