"""Models of text, their training and their evaluation; needs nothing but PyTorch, NumPy, pydantic and safetensors."""
