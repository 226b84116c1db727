"""The graphs of a voice bundle, written node by node.

They are written, not traced, for three reasons: every axis is dynamic by construction, the operators are those ONNX
Runtime runs fastest (one product per LSTM cell, blockwise int8, products over (T, C) instead of convolutions), and
torch, which defines the same models in `fte_export.flowtron` and `fte_export.waveglow`, stays an independent witness:
`fte_export.verify` holds every written graph against it.
"""
