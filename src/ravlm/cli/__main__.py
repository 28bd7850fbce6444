"""`python -m ravlm.cli`: the command line without its script on the PATH."""

import sys

from ravlm.cli.app import main

sys.exit(main())
