"""Pretrained networks on annotated photographs, finetuned with SGD or SAM and probed for both features (Section 4)."""
