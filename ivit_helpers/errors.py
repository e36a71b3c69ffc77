"""The one kind of error a user is expected to meet, and how errors of others are told."""


class InputError(Exception):
    """Something the user can put right. Its text is one sentence: what happened, where, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    """The first line of an error's text; its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def told(error: BaseException) -> str:
    """An error's kind and the first line of its text."""
    return f"{type(error).__name__}: {first_line(error)}"
