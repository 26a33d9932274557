"""Unpacking archives that are not trusted: nothing lands outside, and a folder appears whole or not at all."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from data_scripts import DataError
from data_scripts.disk import full_disk_explained, move, require_space
from data_scripts.sources import plain_name

# zipfile raises the last two for an encrypted member and for an unknown compression. OSErrors without a number are
# those of gzip and bz2; others are the disk's.
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(RuntimeError, NotImplementedError),
)


def unpack(archive: Path, target: Path, *, holds: tuple[str, ...], space: Path, whole: Callable[[], object]) -> None:
    """Unpack an archive so that one of its folders becomes target.

    Args:
        archive: zip or tar, of any compression that Python knows.
        target: does not exist; its parent does.
        holds: entries of the folder that becomes target, wherever it lies in the archive; `plain_name` compares them.
        space: a folder to unpack into, on target's disk; emptied before and removed after.
        whole: called when all of it is unpacked, before target is there.
    Raises:
        DataError: a member would land outside, or is a link or a device; the archive is damaged; it holds no such
            folder; the disk is full. Nothing of it is left.
    """
    shutil.rmtree(space, ignore_errors=True)
    space.mkdir(parents=True)
    try:
        with full_disk_explained(space, "free some and run the same command again"):
            (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, space)
        found = _folder_with(holds, space, archive)
        whole()
        move(found, target)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{archive}: expected a whole zip or tar archive, could not unpack it ({error}); delete it to have it "
            f"fetched again"
        ) from error
    finally:
        shutil.rmtree(space, ignore_errors=True)


def _untar(archive: Path, folder: Path) -> None:
    """Unpack a tar archive in one pass, member by member."""
    with tarfile.open(archive) as tar:
        # A second line of defence, missing before Python 3.11.4; the first is _refuse.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        for member in tar:
            _refuse(archive, member.name, plain=member.isfile() or member.isdir())
            tar.extract(member, folder, set_attrs=False)
        # tarfile takes a damaged header for the end, and stops before the compression's checksum, which lies behind it.
        while rest := tar.fileobj.read(1 << 20):  # type: ignore[union-attr]
            if rest.strip(b"\0"):
                raise tarfile.ReadError("there is more behind what looks like its end")


def _unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip archive; its CRCs are checked on the way."""
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            _refuse(archive, member.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
        require_space(folder, sum(member.file_size for member in members), "the unpacked archive")
        for member in members:
            file.extract(member, folder)


def _refuse(archive: Path, name: str, *, plain: bool) -> None:
    """Refuse a member that could write or point outside the folder."""
    outside = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\\" in name
    if outside or ".." in PurePosixPath(name).parts:
        problem = "would land outside its folder"
    elif not plain:
        problem = "is a link or a device, no file"
    else:
        return
    raise DataError(f"{archive}: expected files inside one folder, but {name!r} {problem}; do not use this archive")


def _folder_with(holds: tuple[str, ...], folder: Path, archive: Path) -> Path:
    """Find the outermost folder that has all the entries."""
    wanted = {plain_name(name) for name in holds}
    found = [
        Path(place) for place, folders, files in os.walk(folder) if wanted <= set(map(plain_name, folders + files))
    ]
    if not found:
        raise DataError(
            f"{archive}: expected a folder that holds {', '.join(holds)}, found none; is it another archive?"
        )
    # The shadow that macOS packs of a folder, in __MACOSX, lies deeper than the folder.
    return min(found, key=lambda path: (len(path.parts), path))
