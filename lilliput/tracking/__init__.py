"""Rows of log.jsonl and judged figures for other people's trackers of experiments, one file each, and their contract.

A tracker hears what is on the disk already; where it fails, that is said once and costs the run nothing.
"""

from lilliput.tracking._follower import FOLDER, TRACKERS, check, followed, forget

__all__ = ["FOLDER", "TRACKERS", "check", "followed", "forget"]
