"""An image set with the left-to-right mirror image of every training picture beside it; test ones linked.

usage: mirror.py FOLDER OUTPUT      (needs Pillow)
"""

import pathlib
import sys

from PIL import Image, ImageOps

from subset import link

if __name__ == "__main__":
    source, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    link(source / "train", output / "train", None)
    link(source / "test", output / "test", None)
    for folder in sorted(p for p in (source / "train").iterdir() if p.is_dir()):
        for picture in sorted(folder.iterdir()):
            upright = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
            name = f"{picture.name}-mirrored.png"
            ImageOps.mirror(upright).save(output / "train" / folder.name / name)
