"""Generated from proto/; `make protos` writes it anew."""
