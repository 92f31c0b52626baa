"""`python -m memos_engine.cli`, the same as `memcube`."""

import sys

from memos_engine.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
