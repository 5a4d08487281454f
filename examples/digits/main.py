"""Train a small network to read handwritten digits.

    python main.py [--epochs 80]

The 1,797 images of 8 × 8 pixels come with scikit-learn: nothing is downloaded. As a DTrain job it
reports its progress, leaves a model, a picture and its metrics behind, and goes on from its last
checkpoint when it is started again elsewhere. Without DTrain it does the same with folders here.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from network import Network
from picture import draw_confusion
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

SIDE = 8
SEED = 7


class Digits:
    """The images, each a row of brightnesses from 0 to 1, and the digits that they show."""

    def __init__(self) -> None:
        digits = load_digits()
        self.train_images, self.test_images, self.train_labels, self.test_labels = train_test_split(
            (digits.data / 16).astype(np.float32),
            digits.target,
            test_size=0.25,
            random_state=SEED,
            stratify=digits.target,
        )


def main() -> None:
    options = parse_options()
    threadpool_limits(1)  # the matrices are so small that threads would wait for one another
    output = folder("DTRAIN_OUTPUT_DIR", "output")
    checkpoint = folder("DTRAIN_CHECKPOINT_DIR", "checkpoint") / "last.npz"

    digits = Digits()
    learn, test = len(digits.train_images), len(digits.test_images)
    print(f"{learn} images to learn from, {test} to be tested with")

    network = Network([SIDE * SIDE, *options.layers, 10], SEED)
    done = 0
    if checkpoint.exists():
        done = int(network.load(checkpoint)["epoch"])
        print(f"Resumed from epoch {done}")

    started = time.monotonic()
    for epoch in range(done + 1, options.epochs + 1):
        loss = train_epoch(network, digits, epoch, options)
        accuracy = float((guesses(network, digits) == digits.test_labels).mean())
        print(f"Epoch {epoch:2}/{options.epochs}: loss {loss:.4f}, accuracy {accuracy:.2%}")
        report(epoch=epoch, epochs=options.epochs, loss=round(loss, 5), accuracy=round(accuracy, 5))
        # Weights, momenta and the epoch, of which the random numbers of the next one are made.
        network.save(checkpoint, epoch=epoch)

    leave_results(output, network, digits, time.monotonic() - started)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a network to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate at the start")
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[512, 256], help="sizes of the hidden layers"
    )
    return parser.parse_args()


def folder(variable: str, otherwise: str) -> Path:
    """The folder that DTrain names for a purpose, or one of our own; it exists afterwards."""
    path = Path(os.environ.get(variable, otherwise))
    path.mkdir(parents=True, exist_ok=True)
    return path


def report(**values: float) -> None:
    """Tell DTrain how far we are: each number becomes a curve."""
    print(f"PROGRESS: {json.dumps(values)}", flush=True)


def train_epoch(network: Network, digits: Digits, epoch: int, options: argparse.Namespace) -> float:
    """Go through all images once, in a new order and slightly moved; returns the mean loss."""
    random = np.random.default_rng((SEED, epoch))
    rate = options.rate * (1 - (epoch - 1) / options.epochs)
    order = random.permutation(len(digits.train_images))
    losses = []
    for start in range(0, len(order), options.batch):
        chosen = order[start : start + options.batch]
        images = moved(digits.train_images[chosen], random)
        losses.append(network.train(images, digits.train_labels[chosen], rate))
    return float(np.mean(losses))


def moved(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The images, each shifted by up to one pixel each way: a digit stays what it is."""
    squares = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    offsets = random.integers(0, 3, (len(images), 2))
    shifted = [
        square[y : y + SIDE, x : x + SIDE] for square, (y, x) in zip(squares, offsets, strict=True)
    ]
    return np.stack(shifted).reshape(len(images), -1)


def guesses(network: Network, digits: Digits) -> np.ndarray:
    """The digit that each test image is read as."""
    return network.probabilities(digits.test_images).argmax(axis=1)


def leave_results(output: Path, network: Network, digits: Digits, seconds: float) -> None:
    """Write what is to stay: the model, the picture, the metrics."""
    matrix = confusion_matrix(digits.test_labels, guesses(network, digits))
    accuracy = float(np.trace(matrix) / matrix.sum())
    network.save(output / "model.npz")
    draw_confusion(matrix, accuracy, output / "confusion.png")
    metrics = {"accuracy": accuracy, "test_images": int(matrix.sum()), "seconds": round(seconds, 1)}
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"{accuracy:.2%} of the test images are read correctly; trained for {seconds:.1f} s")
    print("Left behind: " + ", ".join(sorted(path.name for path in output.iterdir())))


if __name__ == "__main__":
    main()
