"""Ways to write tables, one a file; `sweep/render.py` names them."""
