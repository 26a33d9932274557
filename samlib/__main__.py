"""The command line's former name: `python -m samlib ...` does what `python -m edition ...` does, and says so."""

import runpy
import sys

if __name__ == "__main__":
    print("python -m samlib is now python -m edition", file=sys.stderr)
    runpy.run_module("edition", run_name="__main__", alter_sys=True)
