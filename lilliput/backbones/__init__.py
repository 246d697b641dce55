"""One file per backbone: x.py defines x(*, channels=3, width=1.0)."""
