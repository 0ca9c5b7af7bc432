"""Prints as JSON what a program can see of how it was started."""

import json
import multiprocessing
import os
import pickle
import sys
import warnings

main = sys.modules["__main__"]


class Kept:
    """A class of the program itself, to be pickled."""


def square(number):
    """Runs in a child process, which finds it by name."""
    return number * number


if __name__ == "__main__":
    state = {
        "name": __name__,
        "file": __file__,
        "names": sorted(vars(main)),
        "main": {key: vars(main)[key] for key in ("__cached__", "__doc__", "__package__")},
        "spec": repr(main.__spec__ and main.__spec__.name),
        "loader": type(main.__loader__).__name__,
        "builtins": type(__builtins__).__name__,
        "argv": sys.argv,
        "orig_argv": sys.orig_argv[1:],
        "path": sys.path,
        "cwd": os.getcwd(),
        "pickled": type(pickle.loads(pickle.dumps(Kept()))) is Kept,
        "stdin": sys.stdin.read(),
        "filters": warnings.filters[0][0],
    }
    print(json.dumps(state, default=repr, indent=1))
    for method in ("spawn", "fork") if sys.argv[-1] == "children" else ():
        with multiprocessing.get_context(method).Pool(1) as pool:
            print(method, pool.map(square, [1, 2, 3]))
