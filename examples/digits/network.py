"""A network of fully connected layers, trained by gradient descent with momentum."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np


class Network:
    """Layers with ReLU between them and a softmax at the end."""

    def __init__(self, sizes: list[int], seed: int) -> None:
        random = np.random.default_rng(seed)
        self.weights = [
            random.normal(0, np.sqrt(2 / fan_in), (fan_in, fan_out)).astype(np.float32)
            for fan_in, fan_out in pairwise(sizes)
        ]
        self.biases = [np.zeros(size, np.float32) for size in sizes[1:]]
        self.velocities = [np.zeros_like(values) for values in self._parameters]

    @property
    def _parameters(self) -> list[np.ndarray]:
        return [*self.weights, *self.biases]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """For each image, how likely each class is."""
        return self._activations(images)[-1]

    def train(
        self, images: np.ndarray, labels: np.ndarray, rate: float, momentum: float = 0.9
    ) -> float:
        """One step on a batch; returns the batch's mean loss."""
        activations = self._activations(images)
        rows = np.arange(len(labels))
        loss = -np.log(activations[-1][rows, labels] + 1e-9).mean()

        gradient = activations[-1].copy()
        gradient[rows, labels] -= 1
        gradient /= len(labels)
        weight_gradients, bias_gradients = [], []
        for layer in reversed(range(len(self.weights))):
            weight_gradients.insert(0, activations[layer].T @ gradient)
            bias_gradients.insert(0, gradient.sum(axis=0))
            gradient = (gradient @ self.weights[layer].T) * (activations[layer] > 0)

        gradients = weight_gradients + bias_gradients
        for i, values in enumerate(self._parameters):
            self.velocities[i] = momentum * self.velocities[i] - rate * gradients[i]
            values[:] += self.velocities[i]
        return float(loss)

    def save(self, path: Path, **more: np.ndarray | float) -> None:
        """Write all parameters, and what else is to be kept, in one step."""
        arrays = {f"values_{i}": values for i, values in enumerate(self._parameters)}
        arrays |= {f"velocity_{i}": values for i, values in enumerate(self.velocities)}
        unfinished = path.with_suffix(".tmp")
        with unfinished.open("wb") as file:
            np.savez(file, **arrays, **more)
        unfinished.replace(path)

    def load(self, path: Path) -> dict[str, np.ndarray]:
        """Read the parameters; returns everything that the file holds."""
        with np.load(path) as file:
            arrays = dict(file)
        for i, (values, velocity) in enumerate(zip(self._parameters, self.velocities, strict=True)):
            values[:] = arrays[f"values_{i}"]
            velocity[:] = arrays[f"velocity_{i}"]
        return arrays

    def _activations(self, images: np.ndarray) -> list[np.ndarray]:
        """What goes into each layer, and what comes out of the last one."""
        activations = [images]
        for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            sums = activations[-1] @ weights + biases
            last = layer == len(self.weights) - 1
            activations.append(_softmax(sums) if last else np.maximum(sums, 0))
        return activations


def _softmax(sums: np.ndarray) -> np.ndarray:
    powers = np.exp(sums - sums.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
