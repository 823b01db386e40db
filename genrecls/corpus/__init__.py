"""From music files to a table of tracks: reading, splits and the audit."""
