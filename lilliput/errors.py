"""What can go wrong through no fault of the code: the thing, its value, the way out, in one line."""


class LilliputError(Exception):
    """An error that the user can mend; the command line prints it without a traceback."""


class UnknownName(LilliputError):
    """A name that no file, option or data set answers to."""


class BadData(LilliputError):
    """Images or labels that cannot be used as asked."""


class BadSetting(LilliputError):
    """An option or a combination of options that cannot work."""
