"""Encoders for use outside: files of several formats, eight bits, what is lost and what it costs, a card beside each.

Every format is a file of its own with `write` (a network into a file) and `opened` (the file as a function of images);
nothing here is imported where only speed is measured, so that torch's memory is not counted.
"""
