"""The networks that are timed: torchvision's, with random weights, exported as a user would."""

import sys
from pathlib import Path
from typing import Any

import onnx
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parents[1] / "converters"))
from from_torch import export

OPSET = 18
SIZE = 224
CLASSES = 1000

# Name for people, name in torchvision, and where pytorch-grad-cam is to look: the layer that onnxsal takes by itself.
NETWORKS = {
    "ResNet-50": ("resnet50", "layer4.2"),
    "MobileNetV2": ("mobilenet_v2", "features.18"),
    "VGG16": ("vgg16", "features.30"),
    "ViT-B/16": ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1"),
}


def make_torch(network: str) -> torch.nn.Module:
    """Return the module, in evaluation mode; its random weights are the same at every call."""
    torch.manual_seed(0)
    return torchvision.models.get_model(NETWORKS[network][0], weights=None).eval()


def make_onnx(network: str, folder: Path) -> Path:
    """Return the exported file, made if the folder has none yet."""
    path = folder / f"{NETWORKS[network][0]}-{OPSET}-torch{torch.__version__.split('+')[0]}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        export(make_torch(network), images(2), unfinished, ["scores"], "dynamo", OPSET, True)
        unfinished.rename(path)
    return path


def make_onnx2torch(network: str, folder: Path) -> torch.nn.Module:
    """Return the module that onnx2torch makes of the exported file."""
    import onnx2torch

    return onnx2torch.convert(spell_for_onnx2torch(onnx.load(make_onnx(network, folder)))).eval()


def spell_for_onnx2torch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write as of opset 17 what onnx2torch cannot read otherwise: axes of ReduceMean, allowzero of Reshape."""
    constants: dict[str, Any] = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        kept = [a for a in node.attribute if (node.op_type, a.name) != ("Reshape", "allowzero")]
        if node.op_type == "ReduceMean" and len(node.input) == 2:
            axes = onnx.numpy_helper.to_array(constants[node.input.pop()])
            kept.append(onnx.helper.make_attribute("axes", axes.tolist()))
        del node.attribute[:]
        node.attribute.extend(kept)
    model.opset_import[0].version = 17
    return model


def images(batch: int) -> torch.Tensor:
    """Return random images (batch, 3, 224, 224)."""
    return torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
