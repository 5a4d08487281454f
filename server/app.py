"""Serves DTrain with the settings and the data of this folder: `python app.py`."""

from pathlib import Path

from dtrain.server.app import serve

if __name__ == "__main__":
    raise SystemExit(serve(Path(__file__).resolve().parent))
