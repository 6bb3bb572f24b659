"""All outputs or none: files are written beside the output folder and moved into it when the run is over."""

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from ..errors import InputError


class StagedFolder:
    """An output folder that shows its files only when all of them are there.

    As a context manager it gives the folder to write into, a hidden sibling of the target, and removes it at the end,
    whatever happens. `commit` moves what was written into place.

    Arguments:
        target: the output folder; made when missing.
        known: names of the files such a run may write. A target that holds anything else is refused.
        force: use a target that holds other files too; they are left alone.

    Raises:
        InputError: the target is not a folder, holds other files, or cannot be written.
    """

    def __init__(self, target: str | Path, known: Collection[str], *, force: bool = False):
        self.target = Path(target).absolute()
        self._known = frozenset(known)
        self._staging: Path | None = None
        if self.target.exists() and not self.target.is_dir():
            raise InputError(f"{target}: is a file, not a folder; choose another name with -o.")
        if self.target.is_dir():
            foreign = sorted(set(os.listdir(self.target)) - self._known)
            if foreign and not force:
                raise InputError(
                    f"{target}: already holds other files ({foreign[0]}{', …' if len(foreign) > 1 else ''}); "
                    "choose another folder with -o, or add --force to write into it."
                )
            if not os.access(self.target, os.W_OK | os.X_OK):
                raise InputError(f"{target}: is not writable; choose another folder with -o.")

    def __enter__(self) -> "StagedFolder":
        parent = self.target.parent
        while not parent.exists():
            parent = parent.parent
        try:
            self._staging = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.partial-", dir=parent))
        except OSError as error:
            raise InputError(f"{self.target}: cannot be written ({error.strerror}); choose another with -o.") from None
        return self

    def __exit__(self, *exception) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)

    @property
    def path(self) -> Path:
        """The folder to write into."""
        if self._staging is None:
            raise ValueError("StagedFolder: enter the context first.")
        return self._staging

    def commit(self, last: str) -> None:
        """Moves the files into the target; those of an earlier run that this one did not write are removed.

        Arguments:
            last: name of the file to move last: where it stands, all the others do.
        """
        written = set(os.listdir(self.path))
        self.target.mkdir(parents=True, exist_ok=True)
        (self.target / last).unlink(missing_ok=True)
        for name in sorted(self._known - written):
            (self.target / name).unlink(missing_ok=True)
        for name in sorted(written - {last}) + sorted(written & {last}):
            os.replace(self.path / name, self.target / name)
