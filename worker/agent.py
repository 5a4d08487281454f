"""The worker whose settings (config.json) and data are in this folder: `python agent.py`."""

import sys
from pathlib import Path

from dtrain.worker.agent import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
