"""Pixels in, pixels out: decoding, augmentation, colours. Knows no file format of ours."""
