"""Folders of images as a saved encoder sees them: features, nearest images, what to look at before training."""
