"""Classifiers: presets, the registry, preprocessing and the engines that predict. Knows no queue and no SQL.

Importing this package loads no framework: Keras, TensorFlow and OpenVINO are imported only by modules that need them.
"""
