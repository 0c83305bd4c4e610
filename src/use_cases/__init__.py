"""The use cases that ship, and before them those in the folders that USE_CASES names.

A Python file there is a module of this package, so that what it declares can be pickled and loaded again.
"""

import os

DEFAULT_FOLDER = "use_cases"  # in the working folder

_folders = os.environ.get("USE_CASES", DEFAULT_FOLDER).split(os.pathsep)
__path__ = [*(os.path.abspath(folder) for folder in _folders if folder), *__path__]  # noqa: PTH100 - texts are what it holds
