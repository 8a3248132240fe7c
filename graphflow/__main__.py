"""`python -m graphflow run script.py [args]`."""
import sys

from .command import main

sys.exit(main())
