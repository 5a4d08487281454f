"""The training job of a user, word for word, and what it prints."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

MAIN = """\
# main.py
import time
import json

def main():
    print("Starting training job...")
\x20\x20\x20\x20
    # Training loop
    for epoch in range(1, 6):
        print(f"Epoch {epoch}/5: training...")
        time.sleep(1)
\x20\x20\x20\x20\x20\x20\x20\x20
        # Simulate training metrics
        loss = (6 - epoch) / 5
        accuracy = epoch / 5
\x20\x20\x20\x20\x20\x20\x20\x20
        print(f"Epoch {epoch}: loss={loss:.3f}, acc={accuracy:.3f}")
\x20\x20\x20\x20\x20\x20\x20\x20
        # Report progress (optional)
        progress = {
            "epoch": epoch,
            "loss": loss,
            "accuracy": accuracy
        }
        print(f"PROGRESS: {json.dumps(progress)}")
\x20\x20\x20\x20
    print("Training complete!")

if __name__ == "__main__":
    main()
"""

RECORDS = [
    {"epoch": epoch, "loss": (6 - epoch) / 5, "accuracy": epoch / 5} for epoch in range(1, 6)
]


def expected_log() -> str:
    """What `MAIN` prints."""
    lines = ["Starting training job..."]
    for record in RECORDS:
        epoch, loss, accuracy = record["epoch"], record["loss"], record["accuracy"]
        lines += [
            f"Epoch {epoch}/5: training...",
            f"Epoch {epoch}: loss={loss:.3f}, acc={accuracy:.3f}",
            f"PROGRESS: {json.dumps(record)}",
        ]
    return "\n".join([*lines, "Training complete!", ""])


def zip_of(path: Path, files: dict[str, str]) -> Path:
    """Write a ZIP of files given by their names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path
