"""The error that a user can put right, and how errors of other code are described."""


class InputError(Exception):
    """Something the user can put right. Its text is one sentence: what happened, where, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class ChecksFailed(InputError):  # noqa: N818  read by people: "ChecksFailed: ..."
    """A notebook reached its conclusion, and a check had failed: raised by its last cell, so that whatever runs it fails too."""


class Unavailable(NotImplementedError):  # noqa: N818  read by people
    """Something that a device, or what is installed for it, cannot do. It is not a failure. Its text is one sentence: what, and why."""


class Stopped(KeyboardInterrupt):
    """A second signal asked this process to stop."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its class where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def describe_error(error: BaseException) -> str:
    """The name of an error's class and the first line of its text."""
    return f"{type(error).__name__}: {first_line(error)}"
