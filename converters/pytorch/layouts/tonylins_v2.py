"""tonylins/pytorch-mobilenet-v2: ``features.3.conv.0.weight``, ``classifier.weight``.

The first block begins with its depthwise convolution; older commits expand it by 1.
"""

from converters.pytorch.layouts.layout import MOBILENET_V2, Layout

TONYLINS_V2 = Layout(
    name="tonylins",
    family=MOBILENET_V2,
    body="features",
    stem={"stem_conv": "0", "stem_bn": "1"},
    blocks=(
        {
            "expand": "conv.0",
            "expand_bn": "conv.1",
            "depthwise": "conv.3",
            "depthwise_bn": "conv.4",
            "project": "conv.6",
            "project_bn": "conv.7",
        },
        {
            "depthwise": "conv.0",
            "depthwise_bn": "conv.1",
            "project": "conv.3",
            "project_bn": "conv.4",
        },
    ),
    head={"head_conv": "0", "head_bn": "1"},
    # Older commits have a Dropout before the Linear.
    classifiers=("classifier", "classifier.1"),
)
