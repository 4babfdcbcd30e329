"""Makes the image sample of this folder from the package that carries the originals.

    apt-get download dataset-fashion-mnist && dpkg-deb -x dataset-fashion-mnist_*.deb unpacked
    python make.py unpacked/usr/share/datasets/fashion-mnist

Needs numpy and Pillow. The selection depends on nothing but the input, so that running it again
gives the same pictures.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
PER_CLASS = 40
CLASSES = [
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
]


def read_idx(path):
    """Reads one gzipped IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    return np.frombuffer(data, np.uint8, -1, 4 + 4 * axes).reshape(shape)


def fashion(folder, target):
    """Writes the first pictures of every class of the official training and test parts as PNG
    (lossless); the number in a file name is the picture's place in the original file."""
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        for label, name in enumerate(CLASSES):
            for index in (labels == label).nonzero()[0][:PER_CLASS]:
                path = target / part / name / f"{index:05}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[index]).save(path, optimize=True)


def main():
    """Parses the command line and makes the sample."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="the folder of the IDX files")
    parser.add_argument("--into", type=Path, default=HERE, help="where the sample's folder goes")
    arguments = parser.parse_args()
    fashion(arguments.source, arguments.into / "fashion")


if __name__ == "__main__":
    main()
