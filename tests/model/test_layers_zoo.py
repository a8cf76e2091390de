"""What is found in real models of many exporters, checked by hand against what they are known to be."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.follow import run
from zoo.shared import card_of, model_path, needs_zoo

from onnxsal.graph.canonical import canonicalise
from onnxsal.model.batch import make_batch_dynamic, rows_agree
from onnxsal.model.grid import Grid, Layer
from onnxsal.model.heads import Head, find_head
from onnxsal.model.layers import candidate_layers, last_spatial

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# Classes, activation, what the average is of ("" for none), default layer, its kind, grid and extra tokens.
SHARED = {
    "squeezenet1.1_caffe2_fp16": (1000, "softmax", "conv10_2", "conv10_2", "map", (13, 13), 0),
    "squeezenet1.1_caffe2_fp32": (1000, "softmax", "conv10_2", "conv10_2", "map", (13, 13), 0),
    "mobilenetv2-12-int8_qoperator": (1000, None, "627_quantized", "627_quantized", "map", (7, 7), 0),
    "mobilenetv2-12_dequantised_fp32": (1000, None, "627_quantized", "627_quantized", "map", (7, 7), 0),
    "mobilenet_v1_0.5_224_tf_nhwc_f32": (
        *(1001, "softmax"),
        *("MobilenetV1/MobilenetV1/Conv2d_13_pointwise/Relu6_prequant_relu_TFL_RELU6__31:0",) * 2,
        *("map", (7, 7), 0),
    ),
    "mobilenet_v1_0.5_224_tf_nhwc_u8_qdq": (
        *(1001, "softmax"),
        *("MobilenetV1/Logits/AvgPool_1a/AvgPool_prequant__362_DequantizeLinear__429:0",) * 2,
        *("map", (7, 7), 0),
    ),
    "resnet8_cifar10_keras_nhwc": (
        10,
        "softmax",
        "model/activation_6/Relu:0",
        "model/activation_6/Relu:0",
        "map",
        (8, 8),
        0,
    ),
    "fer2013_mini_xception_keras_nhwc": (
        *(7, "softmax", "model_1/conv2d_7/BiasAdd:0", "model_1/conv2d_7/BiasAdd:0", "map", (4, 4), 0),
    ),
    "vit_ibp_3_3_8_cifar10": (10, None, "/1/1.2/1.2.1/Add_output_0", "/1/1.2/1.2.1/Add_output_0", "tokens", (4, 4), 1),
    "mnist_cntk": (10, None, "", "Pooling160_Output_0", "map", (4, 4), 0),
    "ppocr_mobile_v2_textangle_paddle": (2, "softmax", "pool2d_9.tmp_0", "pool2d_9.tmp_0", "map", (1, 48), 0),
}
DETECTORS = ["ultraface_rfb_320", "yolox_nano_416", "yolov8n_640_dynamic_int8"]
BATCHES_OF_ONE = ["squeezenet1.1_caffe2_fp32", "mobilenet_v1_0.5_224_tf_nhwc_f32", "mnist_cntk", "ultraface_rfb_320"]

# Activation, what the average is of, default layer, its grid.
SHIPPED = {
    "light_bvlc_alexnet": ("softmax", "", "MaxPool", (6, 6)),
    "light_densenet121": (None, "Relu", "Relu", (7, 7)),
    "light_inception_v1": ("softmax", "Concat", "Concat", (6, 6)),
    "light_inception_v2": ("softmax", "Concat", "Concat", (7, 7)),
    "light_resnet50": ("softmax", "Relu", "Relu", (7, 7)),
    "light_shufflenet": ("softmax", "Relu", "Relu", (7, 7)),
    "light_squeezenet": ("softmax", "Relu", "Relu", (13, 13)),
    "light_vgg19": ("softmax", "", "MaxPool", (7, 7)),
    "light_zfnet512": ("softmax", "", "MaxPool", (6, 6)),
}


@cache
def canonical_file(path: Path) -> ir.Model:
    return canonicalise(ir.load(path))


def examine(path: Path, layout: str, size: tuple[int, int] | None) -> tuple[Head, list[Layer], Layer | None]:
    model = canonical_file(path)
    head = find_head(model)
    image = next(v for v in model.graph.inputs if v.const_value is None)
    grid = Grid.of(model, image.name, layout, size)
    layers = candidate_layers(grid, model.graph, image.name, head.logits)
    return head, layers, last_spatial(grid, model.graph, layers, head.logits)


def examine_shared(stem: str) -> tuple[Head, list[Layer], Layer | None]:
    card = card_of(stem)
    return examine(model_path(stem), card.layout or "NCHW", card.size)


@needs_zoo
@pytest.mark.parametrize("stem", SHARED)
def test_a_shared_classifier_is_read_right(stem):
    head, layers, default = examine_shared(stem)
    found = (head.classes, head.activation, head.gap.features if head.gap else "")
    assert (*found, default.name, default.kind, default.grid, default.extra) == SHARED[stem]
    assert layers[-1] == default


@needs_zoo
def test_every_layer_of_the_shared_transformer_is_tokens():
    _, layers, _ = examine_shared("vit_ibp_3_3_8_cifar10")
    assert {(layer.kind, layer.grid) for layer in layers[1:]} == {("tokens", (4, 4))}


@needs_zoo
@pytest.mark.parametrize("stem", DETECTORS)
def test_a_detector_has_no_classes_but_layers(stem):
    head, layers, default = examine_shared(stem)
    assert head.logits is None
    assert head.reason.startswith("no output has one score per class and sample, (N, K): ")
    assert default in layers


@needs_zoo
@pytest.mark.parametrize("stem", BATCHES_OF_ONE)
def test_a_shared_model_of_one_sample_takes_several(stem, rng):
    model = canonical_file(model_path(stem))
    batched = make_batch_dynamic(model)
    image = next(v for v in model.graph.inputs if v.const_value is None)
    x = rng.standard_normal([2, *image.shape[1:]]).astype(np.float32)
    names = [v.name for v in model.graph.outputs]
    assert rows_agree(
        lambda rows: run(batched, {image.name: rows}, names),
        lambda row: run(model, {image.name: row}, names),
        x,
        rtol=1e-4,
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_shipped_with_onnx_is_read_right(name):
    head, _, default = examine(LIGHT / f"{name}.onnx", "NCHW", None)
    values = {v.name: v for node in canonical_file(LIGHT / f"{name}.onnx").graph for v in node.outputs}
    pooled = values[head.gap.features].producer().op_type if head.gap else ""
    assert (head.classes, head.activation, pooled, default.op_type, default.grid) == (1000, *SHIPPED[name])
    assert head.gap is None or head.gap.features == default.name
    assert make_batch_dynamic(canonical_file(LIGHT / f"{name}.onnx")) is not None
