"""Run by the Python of .mediapipe: scores by label of a file's classes for images, as JSON.

python mediapipe_client.py FILE.tflite IMAGES.npy
"""

import json
import sys

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageClassifierOptions(
    base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=-1
)
with vision.ImageClassifier.create_from_options(options) as classifier:
    answers = [
        classifier.classify(mp.Image(image_format=mp.ImageFormat.SRGB, data=image))
        for image in np.load(sys.argv[2])
    ]
scores = [
    {category.category_name: category.score for category in answer.classifications[0].categories}
    for answer in answers
]
print(json.dumps(scores))
