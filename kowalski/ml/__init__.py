"""Machine-learning models: finding, fetching and converting their weights, and scoring alerts with them.

TensorFlow reads the weights once, in a process of its own (`kowalski.ml.convert`); ONNX Runtime scores. A model goes
through `specs` (what is declared), `files` (where its weights lie), `graphs` (what it takes and gives), `merge` and
`sessions` (several models as one graph) into `scorer`; `ready` does beforehand what takes time.
"""
