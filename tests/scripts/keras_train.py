"""A training with Keras as users write them: it trains, evaluates and predicts."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np


class Checks(keras.callbacks.Callback):
    """Looks at a part of the data after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        """Ask how good it is on the first samples."""
        self.model.evaluate(x[:8], y[:8], verbose=0)


keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
y = x.sum(1, keepdims=True)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")

if __name__ == "__main__":
    stopping = keras.callbacks.EarlyStopping(patience=2)
    model.fit(x, y, batch_size=8, epochs=3, validation_split=0.25, callbacks=[stopping, Checks()], verbose=2)
    model.evaluate(x, y, batch_size=8, verbose=0)
    print(len(model.predict(x[:6], verbose=0)), "predictions")
