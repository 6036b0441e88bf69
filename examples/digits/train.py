"""Trains the digits network in PyTorch; writes its checkpoint and what it computes.

    python examples/digits/train.py

Needs PyTorch and scikit-learn. Writes, beside this file unless told otherwise,
`digits_ulsam.pth` (a training checkpoint: `state_dict`, `epoch`, `accuracy`, `args`) and
`reference.npz` (the held-out images as the network takes them, its logits, and the labels).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from network import DigitsNet, attention_maps, peakedness

HERE = Path(__file__).resolve().parent
SIZE = 32
HELD_OUT = 0.2
SPLIT_SEED = 0


def load_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Reads scikit-learn's 1797 handwritten digits as RGB pictures.

    The 8x8 drawings with values 0 to 16 are enlarged bilinearly to 32x32 and rounded to 8 bits, as
    a camera or an image file would hold them, then divided by 255.

    Returns:
        The pictures, float32 `(1797, 3, 32, 32)` in [0, 1], and the labels, int64 `(1797,)`.
    """
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] * (255 / 16)
    images = nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear")
    return images.round().div(255).repeat(1, 3, 1, 1), torch.tensor(digits.target)


def augment(images: torch.Tensor) -> torch.Tensor:
    """Rotates by up to 12 degrees, scales by up to 12 % and shifts by up to 2 pixels."""
    n = len(images)

    def uniform(limit: float) -> torch.Tensor:
        return torch.empty(n).uniform_(-limit, limit)

    angle, scale = torch.deg2rad(uniform(12)), 1 + uniform(0.12)
    shift = 2 * 2 / SIZE  # two pixels, in grid_sample's units: the picture spans -1 to 1
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [
        torch.stack([cos, -sin, uniform(shift)], dim=1),
        torch.stack([sin, cos, uniform(shift)], dim=1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, dim=1), images.shape, align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train(
    network: DigitsNet, images: torch.Tensor, labels: torch.Tensor, args: argparse.Namespace
) -> None:
    """Trains with AdamW and a one-cycle learning rate; weight decay on kernels only."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": args.weight_decay}, {"params": others}],
        lr=args.lr,
        weight_decay=0.0,
    )
    # Only whole batches: ULSAM's batch normalizations follow the last batch to nine tenths.
    steps = len(images) // args.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=args.epochs * steps
    )
    for epoch in range(args.epochs):
        network.train()
        total = 0.0
        order = torch.randperm(len(images))[: steps * args.batch_size]
        for batch in order.split(args.batch_size):
            logits = network(augment(images[batch]))
            loss = nn.functional.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:3d}/{args.epochs}  loss {total / steps:.4f}", flush=True)


def main() -> None:
    """Trains on four fifths of the digits and records the last epoch on the other fifth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output-dir", type=Path, default=HERE)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)

    images, labels = load_images()
    fit, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED
    )
    network = DigitsNet()
    print(f"{sum(p.numel() for p in network.parameters())} parameters, {len(fit)} images")
    start = time.perf_counter()
    train(network, images[fit], labels[fit], args)
    print(f"trained in {time.perf_counter() - start:.0f} s")

    inputs, targets = images[held_out], labels[held_out]
    network.eval()
    with torch.no_grad():
        outputs = network(inputs)
    accuracy = (outputs.argmax(dim=1) == targets).double().mean().item()
    print(f"held-out accuracy {accuracy:.4f} on {len(targets)} images")
    print("largest over mean attention, by group:")
    for name, attention in attention_maps(network, inputs).items():
        groups = "  ".join(f"{value:6.2f}" for value in peakedness(attention).tolist())
        height, width = attention.shape[2:]
        print(f"  {name} ({height}x{width})  {groups}")

    args.output_dir.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(args).items() if name != "output_dir"}
    checkpoint = {
        "epoch": args.epochs,
        "accuracy": accuracy,
        "args": settings,
        "state_dict": network.state_dict(),
    }
    torch.save(checkpoint, args.output_dir / "digits_ulsam.pth")
    np.savez_compressed(
        args.output_dir / "reference.npz",
        inputs=inputs.numpy(),
        outputs=outputs.numpy(),
        labels=targets.numpy(),
    )


if __name__ == "__main__":
    main()
