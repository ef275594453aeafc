"""The plain script that people write today to train a new head: a frozen backbone in front of it, ten epochs.

usage: python -m bench.finetune_script MODEL.keras TRAIN TEST EPOCHS OUT.keras
Prints {"seconds", "accuracy"}: from imported libraries to the saved model; then the accuracy on the folder TEST.
"""

import json
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras

SIZE, BATCH, SEED = (224, 224), 32, 7

began = time.perf_counter()
keras.utils.set_random_seed(SEED)
kwargs = {"image_size": SIZE, "batch_size": BATCH, "label_mode": "categorical", "verbose": False}
train, val = keras.utils.image_dataset_from_directory(
    sys.argv[2], validation_split=0.15, subset="both", seed=SEED, **kwargs
)
whole = keras.models.load_model(sys.argv[1])
backbone = keras.Model(whole.inputs[0], whole.layers[-1].input)
backbone.trainable = False
picture = keras.Input((*SIZE, 3))
probabilities = keras.layers.Dense(len(train.class_names), activation="softmax")(backbone(picture, training=False))
model = keras.Model(picture, probabilities)
model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"])
best = keras.callbacks.EarlyStopping(patience=10_000, restore_best_weights=True)
model.fit(train, validation_data=val, epochs=int(sys.argv[4]), callbacks=[best], verbose=0)
model.save(sys.argv[5])
seconds = time.perf_counter() - began
test = keras.utils.image_dataset_from_directory(sys.argv[3], shuffle=False, **kwargs)
print(json.dumps({"seconds": seconds, "accuracy": model.evaluate(test, verbose=0)[1]}))
