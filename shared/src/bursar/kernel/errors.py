"""What can go wrong inside the kernel. None of these reaches an agent: the host answers with a stable code."""

from __future__ import annotations

from typing import Any


class KernelError(Exception):
    """Base; ``facts`` say what was seen."""

    def __init__(self, text: str, **facts: Any) -> None:
        super().__init__(text + (f" ({', '.join(f'{k}={v}' for k, v in facts.items())})" if facts else ""))
        self.text = text
        self.facts = facts


class CorruptEntry(KernelError):
    """Bytes in the journal that are no entry."""


class BrokenChain(KernelError):
    """An entry does not follow the one before it: something between was lost or replaced."""


class CorruptSnapshot(KernelError):
    """A snapshot that is incomplete or does not match its manifest."""


class JournalError(KernelError):
    """The journal answered with an error that is neither success nor conflict."""


class JournalFull(JournalError):
    """The stream has no room for the append: nothing was stored, and more of the same is refused until there is."""


class Conflict(KernelError):
    """The conditional append was refused: the subject's last sequence is another one. The refusal names no cause."""


class OutcomeUnknown(KernelError):
    """No acknowledgement came: the append may have happened or may happen yet."""


class VersionMismatch(KernelError):
    """The journal or snapshot was written by an incompatible version of the service."""
