"""The pretext techniques, one file each, found by file name."""
