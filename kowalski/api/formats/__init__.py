"""How results are written: one module per format, over the encoder that all share."""
