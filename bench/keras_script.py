"""The plain script that people write today: `image_dataset_from_directory` and `predict`, batch 32.

usage: python -m bench.keras_script MODEL.keras FOLDER
Prints {"images", "seconds", "total_seconds"}: from the opened model to the last prediction; from the start of Python.
"""

import time

BEGAN = time.perf_counter()

import json  # noqa: E402  Python's own start is the only thing before the clock
import os  # noqa: E402  as above
import sys  # noqa: E402  as above

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras  # noqa: E402  after the setting that it reads

model = keras.models.load_model(sys.argv[1])
opened = time.perf_counter()
height, width = model.input_shape[1:3]
dataset = keras.utils.image_dataset_from_directory(
    sys.argv[2], labels=None, shuffle=False, batch_size=32, image_size=(height, width), verbose=False
)
predictions = model.predict(dataset, verbose=0)
labels = predictions.argmax(axis=1)
ended = time.perf_counter()
print(json.dumps({"images": len(labels), "seconds": ended - opened, "total_seconds": ended - BEGAN}))
