"""Files from the cache and from the network, never trusted before their sha256 is checked."""

import hashlib
import http.client
import os
import secrets
import shutil
import sys
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from gatjax.graph.messages import shown

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16


def cache_folder() -> Path:
    """Return the folder for raw data: `GATJAX_DATA` where set, else the user's cache folder."""
    if chosen := os.environ.get("GATJAX_DATA"):
        return Path(chosen).expanduser()
    return user_cache_folder()


def user_cache_folder() -> Path:
    """Where this system keeps what a user's programs can make again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gatjax"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "gatjax"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gatjax"


def check_sha256(data: bytes, sha256: str, where: str, remedy: str) -> bytes:
    """Return the data if it has the pinned hash.

    Raises:
        ValueError: the data is not what was pinned.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{where} is damaged or not the known file: sha256 of its {len(data)} bytes is {found}, "
            f"expected {sha256}; {remedy}"
        )
    return data


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file whole and check its hash."""
    return check_sha256(path.read_bytes(), sha256, str(path), "delete it to have it fetched anew")


def download(url: str, path: Path, sha256: str | None) -> None:
    """Fetch a file with a progress bar; it appears at `path` whole and verified, or not at all.

    Args:
        url: where from.
        path: where to; its folder is made if need be.
        sha256: the hash that the file must have; None where none is published, and what the file says is compared
            with what is known of it.

    Raises:
        OSError: the file cannot be had or not be written.
        ValueError: what came is not the file that was pinned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            total = response.headers.get("Content-Length")
            total = int(total) if total else None
            with (
                partial.open("wb") as file,
                tqdm(total=total, desc=path.name, unit="B", unit_scale=True) as bar,
            ):
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    bar.update(len(chunk))
        if total is not None and size < total:
            raise ConnectionError(f"{url}: the connection ended after {size} of {total} bytes")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise ValueError(
                f"{url} is damaged or not the known file: sha256 of its {size} bytes is "
                f"{digest.hexdigest()}, expected {sha256}; nothing was kept, try again later"
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_choice(argument: str, value: str, known: Iterable[str]) -> None:
    """Refuse a name that is not known, with those that are."""
    if value not in known:
        raise ValueError(f"{argument} must be one of {', '.join(known)}, got {shown(value)}")


def obtain(
    name: str, subfolder: str, sha256: Mapping[str, str], url: str, *, bundled: Iterable[str]
) -> Path:
    """The folder of the cache that holds the files of a data set; those that it lacks are fetched.

    Args:
        name: of the data set.
        subfolder: of the cache.
        sha256: the hash of each file, by its path in the subfolder and under the address.
        url: where the files are published.
        bundled: the names of such data sets that are in the package, for the error.

    Raises:
        FileNotFoundError: the files are nowhere to be had; the message says where they were sought.
        ValueError: a file that was fetched is not the one that was pinned.
    """
    folder = cache_folder() / subfolder
    missing = [file for file in sha256 if not (folder / file).is_file()]
    try:
        for file in missing:
            download(f"{url}/{file}", folder / file, sha256[file])
    except (OSError, http.client.HTTPException) as error:
        raise _not_found(name, folder, missing, url, error, bundled) from None
    return folder


def obtain_archive(name: str, url: str, files: Sequence[str]) -> Path:
    """The folder of the cache that holds the files of a data set; where it lacks one, its zip archive is fetched.

    Args:
        name: of the data set, and of its folder.
        url: of the archive, of which no hash is published.
        files: those that are needed, by their path in the archive, or in the only folder in it.

    Raises:
        FileNotFoundError: the files are nowhere to be had; the message says where they were sought.
        ValueError: what was fetched is no archive, or lacks a file.
    """
    folder = cache_folder() / name
    missing = [file for file in files if not (folder / file).is_file()]
    if not missing:
        return folder
    archive = folder / url.rpartition("/")[2]
    try:
        download(url, archive, None)
    except (OSError, http.client.HTTPException) as error:
        raise _not_found(name, folder, missing, url, error) from None
    try:
        with zipfile.ZipFile(archive) as packed:
            for file in missing:
                _unpack(packed, file, folder / file)
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{url} is damaged or not the known file: {error}; try again later, or put its files into {folder}"
        ) from error
    finally:
        archive.unlink()
    return folder


def _unpack(packed: zipfile.ZipFile, file: str, path: Path) -> None:
    """One file of an archive, whole or not at all."""
    found = [each for each in packed.namelist() if each == file or each.partition("/")[2] == file]
    if len(found) != 1:
        raise KeyError(f"{len(found)} files {file} in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with packed.open(found[0]) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _not_found(
    name: str,
    folder: Path,
    missing: Sequence[str],
    url: str,
    error: Exception,
    bundled: Iterable[str] = (),
) -> FileNotFoundError:
    """Where a data set was sought, and what to do."""
    origin = "from GATJAX_DATA" if os.environ.get("GATJAX_DATA") else "GATJAX_DATA is not set"
    package = f"  in the package, which holds {', '.join(bundled)};\n" if bundled else ""
    return FileNotFoundError(
        f"the data set {name!r} could not be found. Looked for it\n"
        f"{package}"
        f"  in the folder {folder} ({origin}), which lacks {', '.join(missing)};\n"
        f"  at {url}; fetching it from there into that folder failed: "
        f"{str(error) or type(error).__name__}.\n"
        "Connect to the network and try again, or set GATJAX_DATA to a folder whose subfolder "
        f"{folder.name!r} holds these files."
    )
