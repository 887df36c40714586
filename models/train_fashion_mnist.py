#!/usr/bin/env python3
"""Trains the small residual network that the demo uses, and writes it as ONNX.

The data are the 60,000 training images of Fashion-MNIST; the 10,000 test images are looked at once, after the last
epoch, so the accuracy printed at the end has chosen nothing. The network follows He et al., "Deep Residual Learning
for Image Recognition" (CVPR 2016, section 4.2), with projection shortcuts; the schedule is Smith's one-cycle
("Super-Convergence", 2018). Convolution and BatchNormalization stay separate nodes in the file, as training left them.

Needs Debian's python3-torch, python3-onnx and dataset-fashion-mnist.
"""
import argparse
import gzip
import os
import sys
import time
import zlib

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
MEAN, STD = 0.2860, 0.3530  # of the training pixels, scaled to 0..1
STAGES = ((16, 1), (32, 2), (64, 3))  # channels and blocks of each stage; every later stage halves the resolution
BATCH, MAX_LR, WEIGHT_DECAY, MAX_SHIFT = 128, 0.15, 5e-4, 2
OPSET = 13


class ResidualBlock(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                                          nn.BatchNorm2d(channels))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """[N,1,28,28] normalised pixels to [N,10] logits."""

    def __init__(self):
        super().__init__()
        channels = STAGES[0][0]
        self.stem = nn.Sequential(nn.Conv2d(1, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        blocks = []
        for stage, (width, count) in enumerate(STAGES):
            for i in range(count):
                blocks.append(ResidualBlock(channels, width, 2 if stage > 0 and i == 0 else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, len(CLASSES))

    def forward(self, x):
        y = F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1)
        return self.classifier(torch.flatten(y, 1))


def read_idx(path, magic, dims):
    """The array in a gzipped IDX file of unsigned bytes; exits with a sentence when it is missing or malformed."""
    try:
        with gzip.open(path, "rb") as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as error:
        sys.exit(f"Cannot read the data; install Debian's dataset-fashion-mnist or name a folder with --data: {error}")
    header = np.frombuffer(raw[:4 * (1 + dims)].ljust(4 * (1 + dims), b"\0"), dtype=">i4")
    if header[0] != magic or np.prod(header[1:], dtype=np.int64) != len(raw) - header.nbytes:
        sys.exit(f"Not an IDX file of {dims} dimensions: {path}")
    return np.frombuffer(raw, dtype=np.uint8, offset=header.nbytes).reshape(header[1:])


def load(folder, split):
    """Images as uint8 [N,28,28] and labels as int64 [N] of the split `train` or `t10k`."""
    images = read_idx(os.path.join(folder, f"{split}-images-idx3-ubyte.gz"), 2051, 3)
    labels = read_idx(os.path.join(folder, f"{split}-labels-idx1-ubyte.gz"), 2049, 1)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def normalise(images):
    """uint8 [N,28,28] to the network's float input [N,1,28,28]."""
    return ((images.float() / 255 - MEAN) / STD).unsqueeze(1)


def augment(images):
    """Shifts each image by up to MAX_SHIFT pixels, filling with black, and mirrors half of them left to right."""
    n, height, width = images.shape
    padded = F.pad(images, [MAX_SHIFT] * 4)
    rows = torch.arange(height) + torch.randint(0, 2 * MAX_SHIFT + 1, (n, 1))
    columns = torch.arange(width) + torch.randint(0, 2 * MAX_SHIFT + 1, (n, 1))
    columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(model, images, labels, epochs, after_epoch):
    """Trains in place and calls after_epoch() at the end of each epoch."""
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=MAX_LR, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LR, total_steps=epochs * steps, pct_start=0.2)
    start = time.time()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(images))[:steps * BATCH].view(steps, BATCH)
        loss_sum = correct = 0
        for step, batch in enumerate(order):
            x = normalise(augment(images[batch])).to(memory_format=torch.channels_last)
            y = labels[batch]
            optimizer.zero_grad(set_to_none=True)
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            loss.backward()
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
            correct += (logits.argmax(1) == y).sum().item()
            if (step + 1) % 39 == 0 or step + 1 == steps:
                done = epoch * steps + step + 1
                elapsed = time.time() - start
                print(f"epoch {epoch + 1:2}/{epochs}  step {step + 1:3}/{steps}  loss {loss_sum / (step + 1):.4f}  "
                      f"training accuracy {100 * correct / (step + 1) / BATCH:.2f} %  {elapsed:5.0f} s  "
                      f"left {elapsed / done * (epochs * steps - done):5.0f} s", flush=True)
        if not np.isfinite(loss_sum):
            sys.exit("The loss is no longer finite; try another --seed")
        after_epoch()


def export(model, path):
    """Writes the model in inference form and has ONNX's own checker read the file back."""
    model.eval()
    # PRESERVE, not EVAL: with EVAL the exporter folds BatchNormalization into the convolution before it.
    torch.onnx.export(model, torch.zeros(1, 1, 28, 28), path, opset_version=OPSET, input_names=["image"],
                      output_names=["logits"], dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    onnx.checker.check_model(onnx.load(path), full_check=True)


def predict(model, images):
    """The class of each image, int64 [N]."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(normalise(chunk)).argmax(1) for chunk in images.split(500)])


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=14, help="passes over the training images (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order and augmentation (default %(default)s)")
    parser.add_argument("--out", default=os.path.join(here, "fashion_mnist_resnet.onnx"),
                        help="file to write; OUT.part holds the model so far until training ends (default %(default)s)")
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist",
                        help="folder of the four gzipped IDX files (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1,
                        help="more is faster, but rounds differently (default %(default)s)")
    args = parser.parse_args()
    if args.epochs < 1 or args.threads < 1:
        parser.error("--epochs and --threads must be at least 1")
    if not os.access(os.path.dirname(os.path.abspath(args.out)), os.W_OK):
        parser.error(f"--out names a folder that is missing or cannot be written: {args.out}")

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train_images, train_labels = load(args.data, "train")
    test_images, test_labels = load(args.data, "t10k")
    model = ResNet()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(train_images)} training images", flush=True)

    part = args.out + ".part"
    train(model, train_images, train_labels, args.epochs, lambda: export(model, part))
    os.replace(part, args.out)

    right = predict(model, test_images) == test_labels
    for label, name in enumerate(CLASSES):
        print(f"{name:12} {100 * right[test_labels == label].float().mean():.1f} %")
    print(f"{right.sum().item()} of {len(right)} test images right: {100 * right.float().mean():.2f} %")
    print(f"{args.out}: {os.path.getsize(args.out)} bytes")


if __name__ == "__main__":
    main()
