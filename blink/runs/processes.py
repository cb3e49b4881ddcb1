"""Process groups of a run: a single process, or those of an accelerator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from accelerate import Accelerator


class ProcessGroup(Protocol):
    """The group of processes that compute a run."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""

    def maximum(self, value: int) -> int:
        """The largest value of all processes; each must call it."""

    def wait(self) -> None:
        """Block until all processes have called it."""


class SingleProcess:
    """The group of a run in one process."""

    count = 1
    is_main = True

    def maximum(self, value: int) -> int:
        """The value itself."""
        return value

    def wait(self) -> None:
        """Return at once."""


class AcceleratorGroup:
    """The processes of an accelerator."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    @property
    def count(self) -> int:
        """How many there are."""
        return self._accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this is the first."""
        return self._accelerator.is_main_process

    def maximum(self, value: int) -> int:
        """The largest value of all processes; each must call it."""
        if self.count == 1:
            return value
        from accelerate.utils import gather_object

        return int(max(gather_object([value])))

    def wait(self) -> None:
        """Block until all processes have called it."""
        self._accelerator.wait_for_everyone()
