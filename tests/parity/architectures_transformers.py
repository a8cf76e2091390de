"""Architectures of the transformers package, small: what `architectures.py` says holds here too.

Where a network has several outputs they are put side by side, so that one cotangent asks for all.
"""

from collections.abc import Callable
from unittest import mock

import torch
import transformers as hf
from torch import Tensor, nn

CLASSES = 10


class Outputs(nn.Module):
    """A transformers model as a function of the image alone, its outputs flattened into one."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        """Take the outputs called `names` of `model`."""
        super().__init__()
        self.model, self.names = model, names

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, M) of x (N, 3, H, W), or the one output as it is."""
        outputs = self.model(pixel_values=x)
        if len(self.names) == 1:
            single: Tensor = getattr(outputs, self.names[0])
            return single
        return torch.cat([getattr(outputs, name).flatten(1) for name in self.names], 1)


def classifier(name: str, **settings: object) -> nn.Module:
    """Return transformers' `{name}ForImageClassification`."""
    config = getattr(hf, f"{name}Config")(num_labels=CLASSES, **settings)
    return Outputs(getattr(hf, f"{name}ForImageClassification")(config), "logits")


def transformer(layers: int = 2, **settings: object) -> dict[str, object]:
    """Return the settings that plain vision transformers have in common."""
    common = {"image_size": 32, "patch_size": 8, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96}
    return {**common, "num_hidden_layers": layers, **settings}


def swin_hf() -> nn.Module:
    """Return a Swin whose windows do not divide the map, so that it pads."""
    return classifier("Swin", image_size=32, patch_size=2, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=3)


def swinv2_hf() -> nn.Module:
    """Return a SwinV2: cosine attention, positions by a small network."""
    return classifier(
        "Swinv2", image_size=32, patch_size=2, embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=4
    )


def beit() -> nn.Module:
    """Return a BEiT with relative positions and mean pooling."""
    return classifier("Beit", **transformer(use_relative_position_bias=True))


def dinov2() -> nn.Module:
    """Return a DINOv2 trained at another size: its positions are resampled, bicubic."""
    return classifier("Dinov2", **transformer(image_size=56, use_swiglu_ffn=True))


def dinov2_registers() -> nn.Module:
    """Return a DINOv2 with register tokens."""
    return classifier("Dinov2WithRegisters", **transformer())


def dinov3() -> nn.Module:
    """Return a DINOv3: rotary positions, register tokens."""
    return Outputs(hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**transformer(), num_register_tokens=4)), "pooler_output")


def segformer() -> nn.Module:
    """Return a SegFormer for segmentation."""
    config = hf.SegformerConfig(
        num_labels=4,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 24, 32, 48],
        num_attention_heads=[1, 2, 4, 4],
        decoder_hidden_size=32,
        mlp_ratios=[2, 2, 2, 2],
    )
    return Outputs(hf.SegformerForSemanticSegmentation(config), "logits")


def mobilevit() -> nn.Module:
    """Return a MobileViT."""
    return classifier(
        "MobileViT", image_size=64, hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 12, 16, 24, 32, 40, 64]
    )


def mobilevitv2() -> nn.Module:
    """Return a MobileViTV2: separable attention."""
    return classifier("MobileViTV2", image_size=64, width_multiplier=0.25, n_attn_blocks=[1, 1, 1])


def levit() -> nn.Module:
    """Return a LeViT."""
    return classifier(
        "Levit",
        image_size=32,
        hidden_sizes=[32, 48, 64],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8] * 3,
    )


def cvt() -> nn.Module:
    """Return a CvT: projections by depthwise convolution."""
    return classifier("Cvt", embed_dim=[16, 32, 48], num_heads=[1, 2, 3], depth=[1, 2, 3])


def convnextv2() -> nn.Module:
    """Return a ConvNeXtV2: global response normalisation."""
    return classifier("ConvNextV2", hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1])


def poolformer() -> nn.Module:
    """Return a PoolFormer."""
    return classifier("PoolFormer", depths=[1, 1, 2, 1], hidden_sizes=[16, 24, 32, 48])


def pvt_v2() -> nn.Module:
    """Return a PVTv2."""
    return classifier(
        "PvtV2", image_size=32, depths=[1] * 4, hidden_sizes=[16, 24, 32, 48], num_attention_heads=[1, 2, 4, 4]
    )


def efficientnet_hf() -> nn.Module:
    """Return transformers' EfficientNet: padding on one side for its strides."""
    return classifier("EfficientNet", image_size=32, width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640)


def mobilenet_v1_hf() -> nn.Module:
    """Return transformers' MobileNetV1: TensorFlow's padding, computed from the size."""
    return classifier("MobileNetV1", image_size=32, depth_multiplier=0.25)


def mobilenet_v2_hf() -> nn.Module:
    """Return transformers' MobileNetV2 with TensorFlow's padding, for segmentation with dilation."""
    config = hf.MobileNetV2Config(image_size=64, depth_multiplier=0.35, output_stride=16, num_labels=4)
    return Outputs(hf.MobileNetV2ForSemanticSegmentation(config), "logits")


def focalnet() -> nn.Module:
    """Return a FocalNet."""
    return classifier("FocalNet", image_size=32, embed_dim=16, depths=[1, 1, 2, 1], hidden_sizes=[16, 24, 32, 48])


def hiera() -> nn.Module:
    """Return a Hiera: mask units, pooled queries."""
    return classifier("Hiera", image_size=[64, 64], embed_dim=16, depths=[1, 2, 2, 1], num_heads=[1, 2, 4, 8])


def bit() -> nn.Module:
    """Return a BiT: weight-standardised convolutions, group normalisation."""
    return classifier("Bit", embedding_size=16, hidden_sizes=[32, 48, 64, 96], depths=[1] * 4, num_groups=8)


def clip() -> nn.Module:
    """Return CLIP's vision tower: quick GELU."""
    return Outputs(
        hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**transformer(), projection_dim=16)), "image_embeds"
    )


def siglip() -> nn.Module:
    """Return SigLIP's vision tower: pooled by attention to a learnt query."""
    return Outputs(hf.SiglipVisionModel(hf.SiglipVisionConfig(**transformer())), "pooler_output")


def yolos() -> nn.Module:
    """Return a YOLOS: boxes from detection tokens of a plain transformer."""
    config = hf.YolosConfig(**transformer(image_size=[32, 32]), num_detection_tokens=6, num_labels=4)
    return Outputs(hf.YolosForObjectDetection(config), "logits", "pred_boxes")


def small_resnet() -> hf.ResNetConfig:
    """Return the backbone of the detectors."""
    return hf.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, layer_type="basic", out_features=["stage4"]
    )


def detr() -> nn.Module:
    """Return a DETR over a small ResNet."""
    config = hf.DetrConfig(
        backbone_config=small_resnet(),
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=6,
        num_labels=4,
    )
    return Outputs(hf.DetrForObjectDetection(config), "logits", "pred_boxes")


class Undetached(Outputs):
    """Outputs whose gradient passes where the module detaches, since ONNX has no word for that."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, M) of x (N, 3, H, W)."""
        with mock.patch.object(Tensor, "detach", lambda value: value):
            return super().forward(x)


def rt_detr_v2() -> nn.Module:
    """Return an RT-DETRv2: deformable attention, by sampling at learnt places."""
    config = hf.RTDetrV2Config(
        backbone_config=hf.RTDetrResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 24, 32, 48],
            depths=[1] * 4,
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_in_channels=[24, 32, 48],
        encoder_hidden_dim=32,
        d_model=32,
        encoder_ffn_dim=48,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=48,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        decoder_layers=2,
        num_queries=8,
        num_denoising=0,
        hidden_expansion=0.5,
        num_labels=4,
    )
    return Undetached(hf.RTDetrV2ForObjectDetection(config), "logits", "pred_boxes")


def upernet() -> nn.Module:
    """Return an UperNet over a small ConvNeXt: pyramid pooling at several sizes."""
    backbone = hf.ConvNextConfig(
        hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = hf.UperNetConfig(
        backbone_config=backbone, hidden_size=24, auxiliary_in_channels=32, auxiliary_channels=16, num_labels=4
    )
    return Outputs(hf.UperNetForSemanticSegmentation(config), "logits")


def dpt() -> nn.Module:
    """Return a DPT for depth: tokens put back into maps and enlarged."""
    config = hf.DPTConfig(
        **transformer(4),
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 24, 24],
        fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    return Outputs(hf.DPTForDepthEstimation(config), "predicted_depth")


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    function.__name__: function
    for function in (
        swin_hf, swinv2_hf, beit, dinov2, dinov2_registers, dinov3, segformer, mobilevit, mobilevitv2, levit,
        cvt, convnextv2, poolformer, pvt_v2, efficientnet_hf, mobilenet_v1_hf, mobilenet_v2_hf, focalnet, hiera,
        bit, clip, siglip, yolos, detr, rt_detr_v2, upernet, dpt,
    )
}  # fmt: skip
