"""From public Flowtron and WaveGlow checkpoints to voice bundles: the only package that imports torch and onnx."""
