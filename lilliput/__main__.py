"""python -m lilliput"""

import sys

from lilliput.cli import main

sys.exit(main())
