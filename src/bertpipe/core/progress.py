"""How far some work is, told to whoever shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage has come; the command line draws it, nobody else looks at it."""

    label: str
    completed: float
    total: float | None
    """None where the end is not known."""
    unit: str
    detail: str = ""


def ignore_progress(progress: Progress) -> None:
    """Take a report and show nothing: what a stage does when nobody watches."""


def ignore_note(note: str) -> None:
    """Take a note for the user and show nothing."""
