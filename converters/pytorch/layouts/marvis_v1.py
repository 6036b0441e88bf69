"""marvis/pytorch-mobilenet, wjc852456/pytorch-mobilenet-v1: ``model.3.0.weight``, ``fc.weight``."""

from converters.pytorch.layouts.layout import MOBILENET_V1, Layout

MARVIS_V1 = Layout(
    name="marvis",
    family=MOBILENET_V1,
    body="model",
    stem={"stem_conv": "0", "stem_bn": "1"},
    blocks=(
        {
            "depthwise": "0",
            "depthwise_bn": "1",
            "pointwise": "3",
            "pointwise_bn": "4",
        },
    ),
    head=None,
    classifiers=("fc",),
)
