"""A smaller image set made of links: the first K training pictures of every class, all test ones.

usage: subset.py FOLDER K OUTPUT
"""

import pathlib
import sys


def link(source: pathlib.Path, target: pathlib.Path, limit: int | None) -> None:
    """Links the first `limit` files of every class folder of `source` into `target`."""
    for folder in sorted(p for p in source.iterdir() if p.is_dir()):
        (target / folder.name).mkdir(parents=True, exist_ok=True)
        for picture in sorted(folder.iterdir())[:limit]:
            path = target / folder.name / picture.name
            if not path.is_symlink():
                path.symlink_to(picture.resolve())


if __name__ == "__main__":
    source, count, output = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
    link(source / "train", output / "train", count)
    link(source / "test", output / "test", None)
