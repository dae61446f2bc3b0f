"""A folder of your own images: search, retrain, export to ONNX, and run the file in ONNX Runtime.

Run it with `python examples/own_images.py FOLDER`; it needs `pip install 'se-nas[export]'` and takes minutes.
Here the images are drawn first, stripes in three directions, as train/CLASS/*.png and test/CLASS/*.png.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import se_nas

CLASSES = ("diagonal", "horizontal", "vertical")


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    rows, columns = np.indices((32, 32))
    along = {"diagonal": rows + columns, "horizontal": rows, "vertical": columns}[kind]
    stripes = (along + rng.integers(8)) // 4 % 2
    pixels = rng.integers(100, size=(32, 32, 3)) + stripes[..., None] * rng.integers(60, 150, size=3)
    return Image.fromarray(pixels.astype(np.uint8))


def main(folder: str, images: int = 200, epochs: int = 15) -> float:
    home, rng = Path(folder), np.random.default_rng(0)
    for place in (home / "images" / half / name for half in ("train", "test") for name in CLASSES):
        place.mkdir(parents=True)
        for number in range(images):
            draw(place.name, rng).save(place / f"{number}.png")

    se_nas.run(
        "mbconv_digits",  # a small space for 32x32 pixels; the number of classes follows the folder
        home / "run",
        data={"name": "folder", "dir": str(home / "images")},
        budgets={"macs": "800k", "params": "30k"},
        strategy={"strategy": "differentiable", "pretrain_epochs": epochs, "epochs": epochs, "batch_size": 32},
        retrain={"epochs": 2 * epochs, "batch_size": 32},
        settings={"latency": {"table": False}},
    )

    # Each form of export is compared with the network before it is kept; the report says what images must go through.
    report = se_nas.export_trained(home / "run" / "retrain", home / "exported", ["onnx"])
    assert report.normalisation is not None  # known of what was retrained here
    mean, std = (np.array(numbers, np.float32) for numbers in (report.normalisation.mean, report.normalisation.std))
    session = onnxruntime.InferenceSession(str(home / "exported" / "network.onnx"))
    right = []
    for label, name in enumerate(CLASSES):  # sorted by name, as the network numbers them
        for file in sorted((home / "images" / "test" / name).iterdir()):
            pixels = np.asarray(Image.open(file), np.float32) / 255
            (logits,) = session.run(["logits"], {"images": ((pixels - mean) / std).transpose(2, 0, 1)[None]})
            right.append(int(logits.argmax()) == label)
    print(f"{np.mean(right):.2%} of the test images are classified correctly in ONNX Runtime")
    return float(np.mean(right))


if __name__ == "__main__":
    main(*sys.argv[1:] or ["own_images"])
