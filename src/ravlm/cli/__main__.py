"""`python -m ravlm.cli`: the command line where its script is not on the PATH."""

import sys

from ravlm.cli import main

sys.exit(main())
