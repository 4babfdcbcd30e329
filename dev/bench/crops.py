"""A folder of photos as many times larger: random crops of every picture, half of them mirrored.

    python dev/bench/crops.py FOLDER OUTPUT [--times 8] [--side 80]

FOLDER holds one folder of pictures a class; OUTPUT is made. The seed is fixed. To see how programs behave with many pictures;
crops of one picture are alike, so that what a fit says of pictures held out from among them means little.
"""

import argparse
import random
from pathlib import Path

from PIL import Image


def crop(picture, side):
    """A part of between 55 and 100 % of each side, made square."""
    share = random.uniform(0.55, 1.0)
    width, height = (int(length * share) for length in picture.size)
    left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
    part = picture.crop((left, top, left + width, top + height)).resize((side, side))
    return part.transpose(Image.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part


def main():
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--side", type=int, default=80)
    options = parser.parse_args()
    random.seed(1)
    for label in sorted(path for path in options.folder.iterdir() if path.is_dir()):
        (options.output / label.name).mkdir(parents=True, exist_ok=True)
        for file in sorted(label.iterdir()):
            picture = Image.open(file).convert("RGB")
            for k in range(options.times):
                crop(picture, options.side).save(options.output / label.name / f"{file.stem}-{k}.jpg", quality=88)


if __name__ == "__main__":
    main()
