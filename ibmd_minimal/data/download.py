"""BSDS500, fetched by name and on request only, verified, and unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from .. import _checks as check

IMAGES = Path("BSDS500/data/images")
COUNTS = {"train": 200, "val": 100, "test": 200}
MEGABYTES = 71
URL = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"

# The 500 photographs, whatever the packing: `sha256sum test/*.jpg train/*.jpg val/*.jpg | sha256sum` among them.
DIGEST = "eaae4240cb921a9a77b3a87ade9a6a517588996ac105d7fb25c57c21256f856c"
MEMBER = re.compile(r"(?:.*/)?BSDS500/data/images/(train|val|test)/(\d+\.jpg)")
LARGEST = 2**20  # bytes of one photograph: more is not BSDS500's


def data_folder(root: str | Path | None = None) -> Path:
    """`root` if given, else what the environment variable `IBMD_DATA` names, else `~/.cache/ibmd_minimal`."""
    return Path(root or os.environ.get("IBMD_DATA") or Path.home() / ".cache" / "ibmd_minimal").expanduser()


def missing(folder: Path, found: int, wanted: int) -> str:
    """The sentence for a missing or incomplete copy of BSDS500."""
    return (
        f"BSDS500 has {wanted} photographs in {folder}, and {found} are there: type `python -m ibmd_minimal download "
        f"bsds500` ({MEGABYTES} MB from the Berkeley vision group) or let IBMD_DATA name the folder that holds BSDS500/"
    )


def digest(images: Path) -> str:
    """sha256 of the lines `sha256sum` prints for the photographs in `images`, sorted by their paths in it."""
    total = hashlib.sha256()
    for path in sorted(file.relative_to(images).as_posix() for file in images.glob("*/*.jpg")):
        total.update(f"{hashlib.sha256((images / path).read_bytes()).hexdigest()}  {path}\n".encode())
    return total.hexdigest()


def _fetch(url: str, archive: Path, report: Callable[[str], None]) -> None:
    """Save what `url` holds; the size that the server announces is shown first and compared afterwards."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response, open(archive, "wb") as file:
            announced = int(response.headers.get("Content-Length") or 0)
            report(f"fetching {url} ({announced / 1e6 or MEGABYTES:.3g} MB)")
            shutil.copyfileobj(response, file, 2**20)
    except OSError as error:
        raise ConnectionError(f"{url} cannot be fetched ({error}); nothing was changed") from error
    if announced and archive.stat().st_size != announced:
        raise ConnectionError(f"{url} sent {archive.stat().st_size} bytes of {announced}; nothing was changed")


def _unpack(archive: Path, images: Path) -> None:
    """The photographs alone, under names of our own making: no path in the archive is ever followed."""
    try:
        with tarfile.open(archive) as members:
            for member in members:
                found = MEMBER.fullmatch(member.name)
                if found and member.isfile() and member.size <= LARGEST:
                    target = images / found[1] / found[2]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(members.extractfile(member).read())
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"the archive cannot be unpacked ({error}); nothing was changed") from error


def _verify(images: Path, what: str) -> None:
    found = digest(images)
    if found != DIGEST:
        raise ValueError(f"{what} holds other photographs than BSDS500's (sha256 {found[:16]}; wanted {DIGEST[:16]})")


def download(
    name: str = "bsds500", root: str | Path | None = None, url: str = URL, report: Callable[[str], None] = print
) -> Path:
    """Fetch a data set by name into `data_folder(root)`; return the folder of its photographs.

    The photographs are verified by checksum, a copy that is there already as well. They appear whole or not at all.
    ConnectionError where the address cannot be reached, ValueError for an unknown name, a damaged archive, or a folder
    already there with other contents (left as it is).
    """
    check.choice(name, "name", ("bsds500",))
    root = data_folder(root)
    images = root / IMAGES
    if images.exists():
        _verify(images, str(images))
        report(f"{images} is there already, and verified")
        return images
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as scratch:
        _fetch(url, Path(scratch) / "archive", report)
        _unpack(Path(scratch) / "archive", Path(scratch) / "images")
        _verify(Path(scratch) / "images", url)
        images.parent.mkdir(parents=True, exist_ok=True)
        os.replace(Path(scratch) / "images", images)
    report(f"{sum(COUNTS.values())} photographs in {images}, verified")
    return images
