"""`python -m bench NAME [ARGS]`: runs one benchmark; without a name, lists them."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("__"))

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    print(f"usage: ./do bench NAME [ARGS]; NAME is one of: {', '.join(NAMES)}")
    sys.exit(0 if len(sys.argv) < 2 else 2)
sys.argv = sys.argv[1:]
runpy.run_module(f"bench.{sys.argv[0]}", run_name="__main__", alter_sys=True)
