"""python -m lilliput"""

import sys

from lilliput.cli import main

if __name__ == "__main__":  # a worker's process imports this file too
    sys.exit(main())
