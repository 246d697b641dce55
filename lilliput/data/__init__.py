"""Images at rest: stores, files in folders, downloads, masks, leaks."""
