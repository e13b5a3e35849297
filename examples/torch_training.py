"""Train a convolutional network of PyTorch on handwritten digits, with Keras's Nadam by ravine.

Needs ``pip install "ravine[torch,demo]"``.
"""

import argparse

import torch
from sklearn.datasets import load_digits

import ravine.torch


def network():
    """Make a network with batch normalization, always the same."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, bias=False),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * 6 * 6, 10),
    )


def main(arguments=None):
    """Train; return the accuracy of the weights and of their averages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda; default: %(default)s",
    )
    given = parser.parse_args(arguments)

    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x / 16, dtype=torch.float32, device=given.device).reshape(-1, 1, 8, 8)
    y = torch.tensor(y, device=given.device)
    model = network().to(given.device)
    # Biases and scales, which have one axis, do not decay.
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.ndim == 1]},
    ]
    optimizer = ravine.torch.Nadam(groups, lr=0.01, use_ema=True, ema_momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.epochs)
    for epoch in range(given.epochs):
        model.train()
        for images, labels in zip(x[:1400].split(64), y[:1400].split(64), strict=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"epoch {epoch + 1:3}   loss {loss.item():.4f}")

    @torch.no_grad()
    def accuracy():
        model.eval()
        return (model(x[1400:]).argmax(1) == y[1400:]).float().mean().item()

    result = {"weights": accuracy()}
    with optimizer.averaged_weights():
        result["averages"] = accuracy()
    for name, value in result.items():
        print(f"accuracy of the {name:<8}  {value:.4f}")
    return result


if __name__ == "__main__":
    main()
