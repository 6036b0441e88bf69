"""torchvision.models.mobilenet_v2: ``features.3.conv.1.0.weight``, ``classifier.1.weight``."""

from converters.pytorch.layouts.layout import MOBILENET_V2, Layout

TORCHVISION_V2 = Layout(
    name="torchvision",
    family=MOBILENET_V2,
    body="features",
    stem={"stem_conv": "0", "stem_bn": "1"},
    blocks=(
        {
            "expand": "conv.0.0",
            "expand_bn": "conv.0.1",
            "depthwise": "conv.1.0",
            "depthwise_bn": "conv.1.1",
            "project": "conv.2",
            "project_bn": "conv.3",
        },
        {
            "depthwise": "conv.0.0",
            "depthwise_bn": "conv.0.1",
            "project": "conv.1",
            "project_bn": "conv.2",
        },
    ),
    head={"head_conv": "0", "head_bn": "1"},
    # The second where the user has put a lone nn.Linear in the place of Dropout and Linear.
    classifiers=("classifier.1", "classifier"),
)
